"""The numbers of each script's trials: those of the comparison, and those by position, from results.json, checked."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.text_metrics import METRICS
from utils.bootstrap import weighted_mean
from utils.errors import UserError
from utils.trials.examples import example_trial
from utils.trials.files import RESULTS
from utils.trials.finished import FinishedTrial
from utils.trials.reading import DAMAGED, NUMBER, is_of
from utils.trials.summary import summarise_nll
from visualization.reporting.words import fixed, large, percent, whole

Numbers = dict[str, Any]
Spread = float | tuple[float, float] | None
"""A standard error, or the ends of a 95 % interval."""
Value = tuple[float | None, Spread]
"""A number and its spread, each None where there is none."""


@dataclass(frozen=True)
class Quantity:
    """One number that trials may have. note: what it is. show: the number as text."""

    heading: str
    note: str
    show: Callable[[float], str]


QUANTITIES = {
    "nll": Quantity("NLL", "nats per token over all scored tokens, lower is better", fixed(4)),
    "perplexity": Quantity("Perplexity", "exp(NLL), lower is better", large),
    "bits_per_byte": Quantity("Bits/byte", "NLL in bits per UTF-8 byte of the text, lower is better", fixed(4)),
    "score": Quantity("Score", "of the task, from 0 to 1, higher is better", fixed(4)),
    "bleu": Quantity("BLEU", "from 0 to 1, higher is better; of generation at the last position", fixed(4)),
    "rouge1": Quantity("ROUGE-1", "as BLEU", fixed(4)),
    "rouge2": Quantity("ROUGE-2", "as BLEU", fixed(4)),
    "rougeL": Quantity("ROUGE-L", "as BLEU", fixed(4)),
    "logits_within": Quantity(
        "Largest logit within",
        "the largest attention logit at distances within the pre-training length, averaged over heads",
        fixed(2),
    ),
    "logits_beyond": Quantity("Largest logit beyond", "the same at distances beyond the pre-training length", fixed(2)),
    "entropy": Quantity("Entropy (nats)", "of attention at the last position, averaged over heads", fixed(3)),
    "mass_first": Quantity("Mass on first", "share of attention on the first tokens at the last position", percent),
    "mass_middle": Quantity(
        "Mass on middle", "share of attention between the first tokens and the window, at the last position", percent
    ),
    "length": Quantity(
        "Length (tokens)", "the longest text, stream or prompt, or the last position; of lm-eval --max_length", whole
    ),
    "texts": Quantity("Texts", "documents, streams or examples that the numbers are taken over", whole),
    "failed": Quantity("Failed", "texts without a result, which count in no other number", whole),
    "tokens_per_second": Quantity("Tokens/s", "of scoring; of generation decoding at the last position", large),
    "peak_memory_bytes": Quantity("Peak memory (GiB)", "of one process", lambda value: f"{value / 2**30:.2f}"),
    "seconds": Quantity("Time (s)", "that the trial took", fixed(1)),
}
"""Quantities in the order of the table's columns: results first."""


def quantities_of(headlines: Sequence[Mapping[str, Value]]) -> dict[str, Quantity]:
    """The quantities of a table by name: scores with names of their own as they come up, then QUANTITIES."""
    own = dict.fromkeys(name for headline in headlines for name in headline if name not in QUANTITIES)
    return {
        name: Quantity(name, "as lm-eval gives it, on the metric's own scale", fixed(4)) for name in own
    } | QUANTITIES


TEXT_SCORES = tuple(name for name in METRICS if name in QUANTITIES)

Headline = dict[str, Value]
"""Values by names of QUANTITIES; what has another name is a score that is called so."""


@dataclass(frozen=True)
class Table:
    """Numbers of one trial as text: a heading for each column, and rows of as many cells."""

    caption: str
    headings: tuple[str, ...]
    rows: list[list[str]]


def document_headline(trial: FinishedTrial) -> Headline:
    """Headline of documents; the standard error by bootstrap over them."""
    found = summarise_nll(example_trial(trial).samples)
    return _plain(trial, "perplexity", "bits_per_byte") | {
        "length": (found["length"], None),
        "texts": (found["documents"], None),
        "nll": (_number(trial.results, "nll", trial.log_dir / RESULTS), found["standard_error"]),
    }


def stream_headline(trial: FinishedTrial) -> Headline:
    """Headline of streams; the standard error by bootstrap over them."""
    streams = example_trial(trial).results["streams"]
    _, error = weighted_mean([stream["nll"] for stream in streams], [stream["tokens"] for stream in streams])
    return _plain(trial, "perplexity") | {
        "length": (trial.results["streaming_length"], None),
        "texts": (len(streams), None),
        "nll": (_number(trial.results, "nll", trial.log_dir / RESULTS), error),
    }


def generation_headline(trial: FinishedTrial) -> Headline:
    """Headline of generation, at its last position."""
    results, path = trial.results, trial.log_dir / RESULTS
    last = _records(results, "positions", path)[-1]
    documents, failed = (_number(last, name, path) for name in ("documents", "failed"))
    return (
        _plain(trial)
        | {name: _scored(last, name, path) for name in TEXT_SCORES}
        | {
            "length": (_number(last, "position", path), None),
            "texts": ((documents or 0) - (failed or 0), None),
            "failed": (failed or None, None),
            "tokens_per_second": (_number(last, "tokens_per_second", path), None),
        }
    )


def task_headline(trial: FinishedTrial) -> Headline:
    """Headline of a downstream task."""
    results, path = trial.results, trial.log_dir / RESULTS
    examples, failed = (_number(results, name, path) for name in ("examples", "failed"))
    return (
        _plain(trial, "length")
        | {name: _scored(results, name, path) for name in TEXT_SCORES}
        | {
            "texts": ((examples or 0) - (failed or 0), None),
            "failed": (failed or None, None),
            "score": (_number(results, "score", path), _interval(results, path)),
        }
    )


def diagnosis_headline(trial: FinishedTrial) -> Headline:
    """Headline of a diagnosis, at the last position."""
    results, path = trial.results, trial.log_dir / RESULTS
    logits, end = _record(results, "logits", path), "at_end"
    entropy, mass = (_record(_record(results, name, path), end, path) for name in ("entropy", "mass"))
    return _plain(trial) | {
        "length": (_number(results, "longest", path), None),
        "texts": (_number(results, "documents", path), None),
        "logits_within": (_number(logits, "within", path), None),
        "logits_beyond": (_number(logits, "beyond", path), None),
        "entropy": (_number(entropy, "nats", path), None),
        "mass_first": (_number(mass, "first", path), None),
        "mass_middle": (_number(mass, "middle", path), None),
    }


def lm_eval_headline(trial: FinishedTrial) -> Headline:
    """Headline of lm-eval's tasks: each metric of each task and group by its own name, since each has its own scale."""
    path = trial.log_dir / RESULTS
    scores = {
        f"{found['task']} {found['metric']}": (found["score"], found["standard_error"])
        for found in example_trial(trial).results["scores"]
    }
    return (
        scores
        | _plain(trial)
        | {
            "length": (trial.arguments.get("max_length"), None),
            "texts": (_number(trial.results, "examples", path), None),
        }
    )


def document_table(results: Numbers, path: Path) -> Table:
    """NLL of documents by ranges of positions."""
    return _buckets(results, path, {"documents": whole, "tokens": whole, "nll": fixed(4), "perplexity": large})


def stream_table(results: Numbers, path: Path) -> Table:
    """NLL of streams by ranges of positions; spread: over streams."""
    return _buckets(results, path, {"tokens": whole, "nll": fixed(4), "perplexity": large, "spread": fixed(4)})


def _buckets(results: Numbers, path: Path, columns: dict[str, Callable[[float], str]]) -> Table:
    rows = []
    for bucket in _records(results, "buckets", path):
        start, end = _number(bucket, "start", path), _number(bucket, "end", path)
        if start is None or end is None:
            raise UserError(f"{path} has a bucket without start or end: {DAMAGED}")
        rows.append([f"{whole(start)} – {whole(end - 1)}", *_cells(bucket, columns, path)])
    return _table("By position", ("positions", *columns), rows)


def generation_table(results: Numbers, path: Path) -> Table:
    """Scores and costs of generation by position."""
    columns = {
        "position": whole,
        "documents": whole,
        "failed": whole,
        "prefill_seconds": fixed(2),
        "tokens_per_second": large,
        "cache_bytes": whole,
    } | dict.fromkeys(METRICS, fixed(4))
    rows = [_cells(position, columns, path) for position in _records(results, "positions", path)]
    return _table("By position", tuple(columns), rows)


def task_table(results: Numbers, path: Path) -> Table:
    """One row: the score, and what it is of."""
    columns = {"examples": whole, "failed": whole, "length": whole, "score": fixed(4), "standard_error": fixed(4)}
    words = [str(results.get(name) or "") for name in ("task", "metric")]
    return _table("The score", ("task", "metric", *columns), [[*words, *_cells(results, columns, path)]])


def lm_eval_table(results: Numbers, path: Path) -> Table:
    """The scores of lm-eval's tasks and groups, on the scale of their metrics."""
    columns = {"n": whole, "score": fixed(4), "standard_error": fixed(4)}
    rows = [
        [*(str(score.get(name) or "") for name in ("task", "metric")), *_cells(score, columns, path)]
        for score in _records(results, "scores", path)
    ]
    return _table("Scores", ("task", "metric", *columns), rows)


def diagnosis_table(results: Numbers, path: Path) -> Table:
    """Entropy and mass at the pre-training length and at the end."""
    entropies, masses = _record(results, "entropy", path), _record(results, "mass", path)
    entropy_columns = {"position": whole, "nats": fixed(3), "relative_to_all": fixed(3)}
    mass_columns = dict.fromkeys(("first", "window", "middle"), percent)
    rows = [
        [
            *_cells(_record(entropies, when, path), entropy_columns, path),
            *_cells(_record(masses, when, path), mass_columns, path),
        ]
        for when in ("at_pretraining_length", "at_end")
        if entropies.get(when) is not None
    ]
    headings = ("position", "entropy (nats)", "entropy / log n", "mass on first", "on window", "on middle")
    return _table("Attention by position, averaged over heads", headings, rows)


def _table(caption: str, headings: tuple[str, ...], rows: Sequence[list[str]]) -> Table:
    """The table without the columns that are empty in all rows; underscores in headings become spaces."""
    kept = [place for place in range(len(headings)) if any(row[place] for row in rows)]
    names = tuple(headings[place].replace("_", " ") for place in kept)
    return Table(caption, names, [[row[place] for place in kept] for row in rows])


def _cells(record: Numbers, columns: dict[str, Callable[[float], str]], path: Path) -> list[str]:
    """Each number as text, empty where there is none."""
    values = {name: _number(record, name, path) for name in columns}
    return ["" if value is None else columns[name](value) for name, value in values.items()]


def _plain(trial: FinishedTrial, *names: str) -> Headline:
    """These and the costs that every script counts, without standard errors."""
    costs = ("tokens_per_second", "peak_memory_bytes", "seconds")
    return {name: (_number(trial.results, name, trial.log_dir / RESULTS), None) for name in (*costs, *names)}


def _scored(record: Numbers, name: str, path: Path) -> Value:
    return _number(record, name, path), _number(record, f"{name}_standard_error", path)


def _interval(results: Numbers, path: Path) -> Spread:
    """The interval of a task's score; its standard error where there is none."""
    interval = results.get("interval")
    if interval is None:
        return _number(results, "standard_error", path)
    if not isinstance(interval, list) or len(interval) != 2 or not all(is_of(end, NUMBER) for end in interval):
        raise UserError(f"{path} has 'interval' {interval!r}, which must be two numbers: {DAMAGED}")
    return tuple(interval)


def _number(record: Numbers, name: str, path: Path) -> float | None:
    value = record.get(name)
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise UserError(f"{path} has {name!r} {value!r}, which must be a number: {DAMAGED}")
    return value


def _record(record: Numbers, name: str, path: Path) -> Numbers:
    value = record.get(name)
    if not isinstance(value, dict):
        raise UserError(f"{path} lacks {name!r}, which must be an object: {DAMAGED}")
    return value


def _records(record: Numbers, name: str, path: Path) -> list[Numbers]:
    value = record.get(name)
    if not isinstance(value, list) or not value or not all(isinstance(item, dict) for item in value):
        raise UserError(f"{path} lacks {name!r}, which must be a list of objects: {DAMAGED}")
    return value
