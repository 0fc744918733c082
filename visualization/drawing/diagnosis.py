"""Diagnoses: what scripts/diagnose.py left in a log dir, read and checked, and the heads of a model that are drawn."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from utils.errors import UserError
from utils.trials.diagnosis_arrays import COMPONENTS, MOMENTS, STATISTICS
from utils.trials.files import STREAM_ARRAYS
from utils.trials.finished import Kind, LoadedTrial, label_trials, read_log_dir
from utils.trials.reading import DAMAGED, read_numbers


@dataclass(frozen=True)
class HeadChoice:
    """The layers and query heads to draw, counted from 0 as the model counts them; None for all that were measured."""

    layers: tuple[int, ...] | None = None
    heads: tuple[int, ...] | None = None

    @classmethod
    def of(cls, layers: Sequence[int] | None, heads: Sequence[int] | None) -> "HeadChoice":
        """From --layer and --head."""
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
        """Up to the last sampled position that a document reaches."""
        reached = np.flatnonzero(self.arrays["attended"].max(axis=0) > 0)
        return int(self.arrays["positions"][reached[-1]]) + 1

    @property
    def layers(self) -> list[int]:
        """Those that were measured."""
        return self.arrays["layers"].tolist()

    @property
    def heads(self) -> int:
        """Query heads of a layer."""
        return self.arrays["entropy_mean"].shape[1]

    @property
    def documents(self) -> int:
        """How many were measured."""
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
        """Where the chosen layers are along the axis of layers."""
        wanted = self.layers if choice.layers is None else choice.layers
        self._refuse_missing("layer", wanted, self.layers)
        return [self.layers.index(layer) for layer in wanted]

    def number_of_heads(self, choice: HeadChoice) -> int:
        """How many heads of all layers are chosen."""
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
    """Read several trials; UserError names the file that is missing, damaged or of another script."""
    fault = "measures neither logits nor entropy"
    return [
        read_log_dir(log_dir, label, KINDS, fault) for log_dir, label in zip(log_dirs, label_trials(log_dirs, labels))
    ]


def read_diagnosis_arrays(path: Path) -> dict[str, np.ndarray]:
    """What stats.npz of a diagnosis holds, see `utils/trials/diagnosis_arrays.py`, with axes that fit together."""
    arrays = read_numbers(path, (*AXES, *(f"{name}_{moment}" for name in STATISTICS for moment in MOMENTS)))
    shapes = _shapes(arrays) if arrays["entropy_mean"].ndim == 3 and arrays["hidden_coordinates"].ndim == 3 else None
    if shapes is None or any(arrays[name].shape != shape for name, shape in shapes.items()):
        raise UserError(f"{path} holds arrays that do not fit together: {DAMAGED}")
    if any(np.isinf(arrays[name]).any() for name in shapes) or not np.isfinite(arrays["hidden_coordinates"]).all():
        raise UserError(f"{path} holds numbers that are not finite: it is damaged, or the model gave infinity")
    if not arrays["attended"].any() or not np.isfinite(arrays["entropy_mean"]).any():
        raise UserError(f"{path} holds no measured document: there is nothing to show of this trial")
    return arrays


AXES = (
    "layers",
    "distance_edges",
    "positions",
    "attended",
    "first_tokens",
    "window",
    "hidden_coordinates",
    "hidden_position",
    "hidden_document",
    "explained_variance_ratio",
)
"""What stats.npz holds besides the moments of STATISTICS, as far as pictures need it."""


def _shapes(arrays: dict[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    """What the shape of each array must be, given the axes of a few."""
    layers, heads, positions = arrays["entropy_mean"].shape
    states, bins = arrays["hidden_coordinates"].shape[1], len(np.atleast_1d(arrays["distance_edges"])) - 1
    shapes = {
        "layers": (layers,),
        "distance_edges": (bins + 1,),
        "positions": (positions,),
        "attended": (layers, positions),
        "first_tokens": (),
        "window": (),
        "hidden_coordinates": (layers, states, COMPONENTS),
        "hidden_position": (states,),
        "hidden_document": (states,),
        "explained_variance_ratio": (layers, COMPONENTS),
    }
    for name in STATISTICS:
        places = bins if name.startswith("logit") else positions
        shapes |= {f"{name}_{moment}": (layers, heads, places) for moment in MOMENTS}
    return shapes


KINDS = {"diagnose": Kind(Diagnosis, STREAM_ARRAYS, read_diagnosis_arrays)}


def _numbered(name: str, numbers: Sequence[int]) -> str:
    """ "layer 3", "layers 0 to 29" or "layers 0, 4 and 5"."""
    if len(numbers) == 1:
        return f"{name} {numbers[0]}"
    if list(numbers) == list(range(numbers[0], numbers[-1] + 1)):
        return f"{name}s {numbers[0]} to {numbers[-1]}"
    return f"{name}s {', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"
