"""What stats.npz of a diagnosis holds; `scripts/diagnose.py` writes it and the pictures of `visualization/` read it.

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

import numpy as np

STATISTICS = ("logit_max", "logit_mean", "logit_bound", "entropy", "mass_first", "mass_window", "mass_middle")
MOMENTS = ("count", "mean", "deviation", "largest")
COMPONENTS = 3


def relative_entropy(entropy: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Entropy over that of uniform attention, log(keys); NaN where there are fewer than 2 keys.

    entropy: `[..., p]`, nats. keys: `[..., p]`, what broadcasts to it: `attended`, or `positions + 1` for all tokens.
    """
    uniform = np.log(np.where(keys > 1, keys, 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(uniform > 0, entropy / uniform, np.nan)
