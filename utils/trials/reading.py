"""Reading the files of a log dir: one sentence for each that is missing, damaged or of something else."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from utils.errors import UserError
from utils.trials.nll_by_position import SUMS

DAMAGED = "it is damaged, run the trial again with --overwrite"
STREAM_BUCKETS = ("linear", "log")
NUMBER = int | float
TYPE_WORDS: dict[Any, str] = {
    int: "a whole number",
    NUMBER: "a number",
    str: "a text",
    list[str]: "a list of texts",
    NUMBER | None: "a number or null",
    int | None: "a whole number or null",
    str | None: "a text or null",
}
"""Types of values in JSON, in words."""


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file."""
    _require(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error}): {DAMAGED}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no JSON object: {DAMAGED}")
    return content


def is_of(value: Any, kind: Any) -> bool:
    """Whether a value from JSON is of a type of TYPE_WORDS; numbers must be finite, and true is none."""
    if kind == list[str]:
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    if isinstance(value, float) and not math.isfinite(value):
        return False
    return isinstance(value, kind) and not isinstance(value, bool)


def read_position_arrays(path: Path) -> dict[str, np.ndarray]:
    """Arrays in nll.npz of a trial of documents: each of shape (positions,), at least those of SUMS."""
    arrays = _read_sums(path, tuple(SUMS))
    if any(array.ndim != 1 or array.shape != arrays["count"].shape for array in arrays.values()):
        raise UserError(f"{path} holds arrays that are not of one length: {DAMAGED}")
    if not np.any(arrays["count"] > 0):
        raise UserError(f"{path} holds no scored token: there is nothing to show of this trial")
    return arrays


def read_stream_arrays(path: Path) -> dict[str, np.ndarray]:
    """Arrays in stats.npz of a trial of streams.

    For both of STREAM_BUCKETS: NAME_edges, int64 (buckets + 1,), from 0 to the streaming length, and NAME_count,
    NAME_sum, NAME_sum_squares, each (streams, buckets). Every token of a bucket but the first of all is counted.
    """
    names = [f"{kind}_{name}" for kind in STREAM_BUCKETS for name in ("edges", *SUMS)]
    arrays = _read_sums(path, names)
    if not all(_fit_together(arrays, kind) for kind in STREAM_BUCKETS) or not _are_of_the_same_streams(arrays):
        raise UserError(f"{path} holds sums that do not fit its buckets of positions: {DAMAGED}")
    return arrays


def _fit_together(arrays: dict[str, np.ndarray], kind: str) -> bool:
    edges, count = arrays[f"{kind}_edges"], arrays[f"{kind}_count"]
    if edges.ndim != 1 or edges.dtype.kind not in "iu" or len(edges) < 2 or edges[0] != 0:
        return False
    widths = np.diff(edges.astype(np.int64))
    if not (widths > 0).all() or count.ndim != 2 or not len(count):
        return False
    shape = (len(count), len(widths))
    if any(arrays[f"{kind}_{name}"].shape != shape for name in SUMS):
        return False
    widths[0] -= 1  # nothing comes before the first token to predict it from
    return edges[-1] > 1 and bool((count == widths).all())


def _are_of_the_same_streams(arrays: dict[str, np.ndarray]) -> bool:
    lengths = {int(arrays[f"{kind}_edges"][-1]) for kind in STREAM_BUCKETS}
    numbers = {len(arrays[f"{kind}_count"]) for kind in STREAM_BUCKETS}
    return len(lengths) == len(numbers) == 1


def read_numbers(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The numeric arrays of an npz file, those `names` among them."""
    _require(path)
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except Exception as error:  # damaged archives fail in a dozen ways: zip, zlib, header, memory, encoding
        raise UserError(f"{path} cannot be read as an npz file of arrays: {DAMAGED}") from error
    arrays = {name: array for name, array in arrays.items() if array.dtype.kind in "iuf"}
    for name in names:
        if name not in arrays:
            raise UserError(f"{path} lacks the array {name!r}: it is damaged, or no trial's {path.name}")
    return arrays


def _read_sums(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The numeric arrays of an npz file, those `names` among them and finite."""
    arrays = read_numbers(path, names)
    if not all(np.isfinite(arrays[name]).all() for name in names):
        raise UserError(f"{path} holds sums that are not finite: it is damaged, or the model gave NaN")
    return arrays


def _require(path: Path) -> None:
    if not path.is_file():
        raise UserError(
            f"{path.parent} has no {path.name}: the trial is not finished, run it again with the same "
            "arguments to finish it"
        )
