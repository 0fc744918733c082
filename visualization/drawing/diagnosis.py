"""Diagnoses of scripts/diagnose.py, read and checked, and the heads of a model that are drawn."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from utils.errors import UserError
from utils.trials.experiments import DIAGNOSIS
from utils.trials.finished import LoadedTrial, label_trials, read_log_dir
from visualization.drawing.looks import named_by_method


@dataclass(frozen=True)
class HeadChoice:
    """The layers and query heads to draw, counted from 0 as the model counts them; None for all that were measured."""

    layers: tuple[int, ...] | None = None
    heads: tuple[int, ...] | None = None

    @classmethod
    def of(cls, layers: Sequence[int] | None, heads: Sequence[int] | None) -> "HeadChoice":
        """The choice that --layer and --head make."""
        return cls(*(None if numbers is None else tuple(dict.fromkeys(numbers)) for numbers in (layers, heads)))

    def __str__(self) -> str:
        if self.layers is None and self.heads is None:
            return "all heads"
        heads = "all heads" if self.heads is None else _numbered("head", self.heads)
        layers = "all layers" if self.layers is None else _numbered("layer", self.layers)
        return f"{heads} of {layers}"


ALL_HEADS = HeadChoice()


class Diagnosis(LoadedTrial):
    """A trial of scripts/diagnose.py. arrays: as `utils/trials/diagnosis_arrays.py` tells."""

    @property
    def length(self) -> int:
        """Tokens up to the last sampled position that a document reaches."""
        reached = np.flatnonzero(self.arrays["attended"].max(axis=0) > 0)
        return int(self.arrays["positions"][reached[-1]]) + 1

    @property
    def layers(self) -> list[int]:
        """Numbers of the layers that were measured."""
        return self.arrays["layers"].tolist()

    @property
    def heads(self) -> int:
        """Query heads of a layer."""
        return self.arrays["entropy_mean"].shape[1]

    @property
    def documents(self) -> int:
        """Number of documents that were measured."""
        return len(np.unique(self.arrays["hidden_document"]))

    @property
    def distances(self) -> np.ndarray:
        """The middle of each bin of distance, tokens, `[b]`."""
        edges = self.arrays["distance_edges"]
        return (edges[:-1] + edges[1:] - 1) / 2

    @property
    def first_distance(self) -> int:
        """The smallest distance of one of the queries whose logits were measured to one of the first tokens."""
        queries = min(self.arguments.get("num_queries") or 1, self.length)
        return max(self.length - queries - int(self.arrays["first_tokens"]) + 1, 0)

    def rows(self, choice: HeadChoice = ALL_HEADS) -> list[int]:
        """Places of the chosen layers along the axis of layers."""
        wanted = self.layers if choice.layers is None else choice.layers
        self._refuse_missing("layer", wanted, self.layers)
        return [self.layers.index(layer) for layer in wanted]

    def number_of_heads(self, choice: HeadChoice) -> int:
        """Number of chosen heads of all layers."""
        return len(self.rows(choice)) * (self.heads if choice.heads is None else len(choice.heads))

    def of_heads(self, values: np.ndarray, choice: HeadChoice = ALL_HEADS) -> np.ndarray:
        """The chosen layers and heads of `values`, `[l, h, ...]`."""
        heads = range(self.heads) if choice.heads is None else choice.heads
        self._refuse_missing("head", heads, range(self.heads))
        return values[self.rows(choice)][:, list(heads)]

    def _refuse_missing(self, name: str, wanted: Sequence[int], there: Sequence[int]) -> None:
        for number in wanted:
            if number not in there:
                raise UserError(f"--{name} {number}: {self.log_dir} measured {_numbered(name, list(there))}")


def load_diagnoses(log_dirs: Sequence[str], labels: Sequence[str] | None = None) -> list[Diagnosis]:
    """Read several trials, called by their methods unless `labels` are given.

    UserError names the file that is missing, damaged or of another script.
    """
    fault = "which measures neither logits nor entropy"
    trials = [
        Diagnosis.of(read_log_dir(log_dir, (DIAGNOSIS,), fault), label)
        for log_dir, label in zip(log_dirs, label_trials(log_dirs, labels))
    ]
    return named_by_method(trials) if labels is None else trials


def _numbered(name: str, numbers: Sequence[int]) -> str:
    """ "layer 3", "layers 0 to 29" or "layers 0, 4 and 5"."""
    if len(numbers) == 1:
        return f"{name} {numbers[0]}"
    if list(numbers) == list(range(numbers[0], numbers[-1] + 1)):
        return f"{name}s {numbers[0]} to {numbers[-1]}"
    return f"{name}s {', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"
