"""Finished trials of perplexity, of documents or of streams: their NLL by position."""

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from utils.errors import UserError
from utils.trials.experiments import PERPLEXITY, STREAMS
from utils.trials.finished import FinishedTrial, LoadedTrial, label_trials, read_log_dir
from utils.trials.nll_by_position import window_sums


class NllTrial(LoadedTrial):
    """A trial of perplexity.

    arrays: sums of the NLL, in nats, by position, in tokens from 0, of the predicted token.
    """

    @property
    def tokens(self) -> int:
        """Number of tokens that were scored."""
        return int(self.totals(np.array([0, self.length]))[0].sum())

    @abstractmethod
    def totals(self, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Number of tokens and their NLL between neighbouring edges (int64), each of shape (streams, edges - 1)."""


class DocumentTrial(NllTrial):
    """Many documents. arrays: count (documents that reach a position), sum, sum_squares, each (positions,)."""

    @property
    def length(self) -> int:
        return len(self.arrays["count"])

    def totals(self, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sums as of the base class; all documents together are one stream."""
        edges = np.minimum(edges, self.length)
        tokens, nll = (window_sums(self.arrays[name], edges[:-1], edges[1:]) for name in ("count", "sum"))
        return tokens[None], nll[None]


class StreamTrial(NllTrial):
    """One or more endless streams. arrays: as `read_stream_arrays` tells."""

    @property
    def length(self) -> int:
        return int(self.arrays["linear_edges"][-1])

    @property
    def streams(self) -> int:
        return len(self.arrays["linear_count"])

    @property
    def bucket(self) -> int:
        """Positions in a linear bucket, of which only the last may hold fewer."""
        return int(self.arrays["linear_edges"][1])

    def totals(self, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sums as of the base class; edges are multiples of `bucket`, or beyond the last position."""
        places = np.searchsorted(self.arrays["linear_edges"], np.minimum(edges, self.length))
        tokens, nll = (window_sums(self.arrays[f"linear_{name}"], places[:-1], places[1:]) for name in ("count", "sum"))
        return tokens, nll


NLL_TRIALS: dict[str, type[NllTrial]] = {PERPLEXITY: DocumentTrial, STREAMS: StreamTrial}


def nll_trial(trial: FinishedTrial, label: str | None = None) -> NllTrial:
    """A trial of one of NLL_TRIALS with its arrays."""
    return NLL_TRIALS[trial.script].of(trial, label)


def load_trial(log_dir: str | Path, label: str | None = None) -> NllTrial:
    """Read one trial of perplexity; UserError as `read_log_dir` raises it."""
    return nll_trial(read_log_dir(log_dir, NLL_TRIALS, "which measures no NLL by position"), label)


def load_trials(log_dirs: Sequence[str], labels: Sequence[str] | None = None) -> list[NllTrial]:
    """Read several trials, all of documents or all of streams; labels as `label_trials` gives them."""
    trials = [load_trial(log_dir, label) for log_dir, label in zip(log_dirs, label_trials(log_dirs, labels))]
    for other in trials[1:]:
        if type(other) is not type(trials[0]):
            documents, stream = sorted((trials[0], other), key=lambda trial: isinstance(trial, StreamTrial))
            raise UserError(
                f"{documents.log_dir} counts positions within documents and {stream.log_dir} within a stream of "
                "many: give trials of one kind"
            )
    return trials
