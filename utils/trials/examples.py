"""Finished trials with their results per example, to be combined."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from utils.errors import UserError
from utils.trials.experiments import LM_HARNESS, SCORED, STREAMS
from utils.trials.files import CONFIG, RESULTS
from utils.trials.finished import FinishedTrial, read_log_dir
from utils.trials.reading import DAMAGED, NUMBER, is_of
from utils.trials.samples import Sample


@dataclass(frozen=True)
class ExampleTrial(FinishedTrial):
    """samples: as `samples.read_samples` gives them; none where the numbers are in results.json alone."""

    samples: list[Sample]


def read_trial(log_dir: str | Path, scripts: Iterable[str] = SCORED) -> ExampleTrial:
    """Read one finished trial of one of these scripts; UserError as `read_log_dir` and `example_trial` raise it."""
    return example_trial(read_log_dir(log_dir, scripts))


def example_trial(trial: FinishedTrial) -> ExampleTrial:
    """The trial with its samples; UserError names the file, and the line, that is not as it must be."""
    _check_names(trial.config, trial.log_dir / CONFIG)
    if trial.script == STREAMS:
        _check_streams(trial.results, trial.log_dir / RESULTS)
    if trial.script == LM_HARNESS:
        _check_scores(trial.results, trial.log_dir / RESULTS)
    return ExampleTrial(**vars(trial), samples=trial.read_samples())


def _check_names(config: dict[str, Any], path: Path) -> None:
    model, corpus = config.get("model"), config.get("corpus")
    if not isinstance(model, dict) or not isinstance(model.get("name"), str):
        raise UserError(f"{path} holds no name of a model: {DAMAGED}")
    if not (isinstance(corpus, dict) and isinstance(corpus.get("name"), str) and is_of(corpus.get("documents"), int)):
        raise UserError(f"{path} holds no name and number of documents of a corpus: {DAMAGED}")


def _check_streams(results: dict[str, Any], path: Path) -> None:
    streams = results.get("streams")
    complete = isinstance(streams, list) and streams and is_of(results.get("streaming_length"), int)
    if not complete or not all(
        isinstance(stream, dict) and is_of(stream.get("nll"), NUMBER) and is_of(stream.get("tokens"), int)
        for stream in streams
    ):
        raise UserError(f"{path} holds no streaming_length and streams with nll and tokens: {DAMAGED}")


def _check_scores(results: dict[str, Any], path: Path) -> None:
    scores = results.get("scores")
    kinds = {"task": str, "metric": str, "score": NUMBER | None, "standard_error": NUMBER | None, "n": int}
    if not (isinstance(scores, list) and scores) or not all(
        isinstance(score, dict) and all(name in score and is_of(score[name], kind) for name, kind in kinds.items())
        for score in scores
    ):
        raise UserError(f"{path} holds no scores with {', '.join(kinds)}: {DAMAGED}")
