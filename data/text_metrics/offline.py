"""A metric of the `evaluate` framework that touches neither the network nor the user's cache."""

import tempfile

import evaluate
from datasets import Features, Sequence, Value

SEED = 0
TEXTS = [
    Features({"predictions": Value("string"), "references": Sequence(Value("string"))}),
    Features({"predictions": Value("string"), "references": Value("string")}),
]
"""One reference for each prediction, or a list of them."""


class OfflineMetric(evaluate.Metric):
    """Keeps its texts in memory; `compute` and `add_batch` are the framework's own.

    The framework insists on a folder even so: it is a temporary one, gone with the metric. numpy's random numbers are
    drawn from `seed` within `compute`, so that the same texts give the same numbers.
    """

    def __init__(self, seed: int = SEED) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="metric-")
        super().__init__(keep_in_memory=True, cache_dir=self._folder.name, seed=seed)
