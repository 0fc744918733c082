"""Arrays in stats.npz of a diagnosis; `scripts/diagnose.py` writes them and the pictures of `visualization/` read them.

Plain arrays without pickle. Axes: l measured layers, h query heads, b bins of distance, p positions, s hidden states,
c components. Every statistic X of STATISTICS was first taken per document; over the documents that reach a place there
are four arrays of one shape, named after MOMENTS: `X_count` (int64, documents), `X_mean`, `X_deviation` (that of a
sample, with n - 1) and `X_largest` (over documents), float64 and NaN where too few documents count.

| array | shape | what |
| --- | --- | --- |
| `layers` | l, int64 | numbers of the layers, from 0 |
| `distance_edges` | b + 1, int64 | bin k holds the relative distances edges[k] .. edges[k + 1] - 1, in tokens |
| `positions` | p, int64 | positions of the sampled queries, from 0; position i has i + 1 tokens of context |
| `attended` | l, p, int64 | keys that such a query attends to; 0 where no document reaches it |
| `first_tokens`, `window` | scalar, int64 | key j of query i is first where j < first_tokens, else in the window where
    i - j < window, else in the middle |
| `logit_max_*`, `logit_mean_*` | l, h, b | largest and mean logit that enters the softmax, over a document's last
    queries and the keys at such a distance; count 0 where none is attended |
| `logit_bound_*` | l, h, b | the running maximum of `logit_max` over distance, from 0 up |
| `entropy_*` | l, h, p | of the attention, in nats; see `relative_entropy` |
| `mass_first_*`, `mass_window_*`, `mass_middle_*` | l, h, p | shares of the attention, which add up to 1 |
| `hidden_coordinates` | l, s, c, float32 | hidden states behind each layer, on their principal components |
| `hidden_position`, `hidden_document` | s, int64 | of which token, of which document (its index in the data) |
| `explained_variance`, `explained_variance_ratio` | l, c, float64 | of each component |

The true relative distance counts, also where the model feels it as less.
"""

from pathlib import Path

import numpy as np

from utils.errors import UserError
from utils.trials.reading import DAMAGED, read_numbers

STATISTICS = ("logit_max", "logit_mean", "logit_bound", "entropy", "mass_first", "mass_window", "mass_middle")
MOMENTS = ("count", "mean", "deviation", "largest")
COMPONENTS = 3
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
"""Arrays in stats.npz besides the moments of STATISTICS, as far as pictures need them."""


def relative_entropy(entropy: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Entropy over that of uniform attention, log(keys); NaN where there are fewer than 2 keys.

    entropy: `[..., p]`, nats. keys: `[..., p]`, what broadcasts to it: `attended`, or `positions + 1` for all tokens.
    """
    uniform = np.log(np.where(keys > 1, keys, 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(uniform > 0, entropy / uniform, np.nan)


def read_diagnosis_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays in stats.npz of a diagnosis, with axes that fit together."""
    arrays = read_numbers(path, (*AXES, *(f"{name}_{moment}" for name in STATISTICS for moment in MOMENTS)))
    shapes = _shapes(arrays) if arrays["entropy_mean"].ndim == 3 and arrays["hidden_coordinates"].ndim == 3 else None
    if shapes is None or any(arrays[name].shape != shape for name, shape in shapes.items()):
        raise UserError(f"{path} holds arrays that do not fit together: {DAMAGED}")
    if any(np.isinf(arrays[name]).any() for name in shapes) or not np.isfinite(arrays["hidden_coordinates"]).all():
        raise UserError(f"{path} holds numbers that are not finite: it is damaged, or the model gave infinity")
    if not arrays["attended"].any() or not np.isfinite(arrays["entropy_mean"]).any():
        raise UserError(f"{path} holds no measured document: there is nothing to show of this trial")
    return arrays


def _shapes(arrays: dict[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    """The shape that each array must have, given the axes of a few."""
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
