"""The headline numbers of a set of examples, with standard errors and intervals over them."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from utils.bootstrap import proportion_interval, standard_error, weighted_mean
from utils.trials.samples import Sample

Summary = dict[str, Any]
COMPONENTS = "components"
"""Field of a line with the numbers of which the score of many examples is the geometric mean, each averaged first."""


def summarise_task(samples: Sequence[Sample]) -> Summary:
    """Results of the examples of one downstream task, as results.json holds them.

    score (0 to 1) is over the examples that did not fail; both kinds are counted. interval: the 95 % interval
    [low, high] of a score that is a proportion. length is that of the longest prompt, in tokens. score, standard_error,
    interval and length are None where there is nothing to take them from.
    """
    scored = [sample for sample in samples if sample["error"] is None]
    values = [sample["score"] for sample in scored]
    composed = bool(scored) and all(COMPONENTS in sample for sample in scored)
    score, error = _mean_of_components(scored) if composed else weighted_mean(values)
    interval = None if composed else proportion_interval(values)
    return {
        "task": samples[0]["task"],
        "score": score,
        "standard_error": error,
        "interval": interval and list(interval),
        "examples": len(samples),
        "failed": len(samples) - len(scored),
        "length": max((sample["length"] for sample in scored), default=None),
    }


def _mean_of_components(samples: Sequence[Sample]) -> tuple[float, float | None]:
    """The geometric mean of the components' means, and its standard error by bootstrap."""
    sums = np.array([[*sample[COMPONENTS].values(), 1.0] for sample in samples])
    return _composed(sums.sum(axis=0)), standard_error(sums, _composed)


def _composed(sums: np.ndarray) -> float:
    """sums: of each component, and the number of examples."""
    *totals, count = sums.tolist()
    return math.prod(total / count for total in totals) ** (1 / len(totals))


def summarise_nll(samples: Sequence[Sample]) -> Summary:
    """NLL in nats per token over all scored tokens of documents; length is that of the longest, in tokens."""
    nll, error = weighted_mean([sample["nll"] for sample in samples], [sample["scored"] for sample in samples])
    return {
        "nll": nll,
        "standard_error": error,
        "documents": len(samples),
        "length": max(sample["tokens"] for sample in samples),
    }
