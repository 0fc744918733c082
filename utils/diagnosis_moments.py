"""Count, mean and deviation over documents of arrays in which NaN says that a document has no number there."""

import numpy as np


class Moments:
    """Running sums in float64 (Welford's method): adding the same arrays in the same order gives the same numbers."""

    def __init__(self) -> None:
        self.count: np.ndarray | None = None

    def add(self, values: np.ndarray) -> None:
        """Of one document; every document has the same shape."""
        if self.count is None:
            self.count = np.zeros(values.shape, dtype=np.int64)
            self.mean, self.squares = np.zeros(values.shape), np.zeros(values.shape)
            self.largest = np.full(values.shape, np.nan)
        there = ~np.isnan(values)
        values = np.where(there, values, 0.0).astype(np.float64)
        self.count += there
        change = np.where(there, values - self.mean, 0.0)
        self.mean += change / np.maximum(self.count, 1)
        self.squares += change * (values - self.mean)
        self.largest = np.fmax(self.largest, np.where(there, values, np.nan))

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """`name`_count, _mean, _deviation and _largest, as `utils/trials/diagnosis_arrays.py` has them."""
        several = self.count > 1
        variance = self.squares / np.maximum(self.count - 1, 1)
        return {
            f"{name}_count": self.count,
            f"{name}_mean": np.where(self.count > 0, self.mean, np.nan),
            f"{name}_deviation": np.where(several, np.sqrt(np.maximum(variance, 0.0)), np.nan),
            f"{name}_largest": self.largest,
        }
