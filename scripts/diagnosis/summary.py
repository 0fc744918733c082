"""From one file per document to the arrays of a diagnosis: moments over documents, and principal components."""

from collections.abc import Sequence

import numpy as np
from sklearn.decomposition import IncrementalPCA

from models.diagnosis.plan import Plan
from scripts.diagnosis.documents import DocumentFiles
from utils.trials.diagnosis_arrays import COMPONENTS, STATISTICS


class Moments:
    """Running sums in float64 (Welford's method): adding the same arrays in the same order gives the same numbers."""

    def __init__(self) -> None:
        self.count: np.ndarray | None = None

    def add(self, values: np.ndarray) -> None:
        """Add the values of one document; every document has the same shape."""
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


def summarise_documents(
    files: DocumentFiles, indices: Sequence[int], plan: Plan, layers: Sequence[int]
) -> dict[str, np.ndarray]:
    """The content of stats.npz, see `utils/trials/diagnosis_arrays.py`; each file is read twice, one at a time.

    indices: of the documents, in whose ascending order they are added up, however they were measured.
    """
    moments = {name: Moments() for name in STATISTICS}
    components = [IncrementalPCA(COMPONENTS) for _ in layers]
    attended = np.zeros((len(layers), len(plan.positions)), dtype=np.int64)
    for index in sorted(indices):
        document = files.load(index)
        for name, sums in moments.items():
            sums.add(document[name])
        for pca, hidden in zip(components, document["hidden"]):
            pca.partial_fit(hidden)
        attended = np.maximum(attended, document["attended"])
    return {
        "layers": np.array(layers, dtype=np.int64),
        "distance_edges": plan.distance_edges,
        "positions": plan.positions,
        "attended": attended,
        "first_tokens": np.array(plan.first_tokens, dtype=np.int64),
        "window": np.array(plan.window, dtype=np.int64),
        **{name: values for statistic, sums in moments.items() for name, values in sums.arrays(statistic).items()},
        **_project(files, sorted(indices), components),
    }


def _project(
    files: DocumentFiles, indices: Sequence[int], components: Sequence[IncrementalPCA]
) -> dict[str, np.ndarray]:
    """The coordinates of every hidden state that was kept, once the components of all are known."""
    coordinates, positions, documents = [], [], []
    for index in indices:
        hidden = files.load(index)["hidden"]
        coordinates.append(np.stack([pca.transform(layer) for pca, layer in zip(components, hidden)]))
        positions.append(np.arange(hidden.shape[1]))
        documents.append(np.full(hidden.shape[1], index))
    return {
        "hidden_coordinates": np.concatenate(coordinates, 1).astype(np.float32),
        "hidden_position": np.concatenate(positions).astype(np.int64),
        "hidden_document": np.concatenate(documents).astype(np.int64),
        "explained_variance": np.stack([pca.explained_variance_ for pca in components]).astype(np.float64),
        "explained_variance_ratio": np.stack([pca.explained_variance_ratio_ for pca in components]).astype(np.float64),
    }
