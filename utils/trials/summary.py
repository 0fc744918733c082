"""The headline numbers of a set of examples, with standard errors by bootstrap over them."""

from collections.abc import Sequence
from typing import Any

from utils.bootstrap import weighted_mean
from utils.trials.samples import Sample

Summary = dict[str, Any]


def summarise_task(samples: Sequence[Sample]) -> Summary:
    """Results of the examples of one downstream task, as results.json holds them.

    score (0 to 1) is the mean over the examples that did not fail; both kinds are counted. length is that of the
    longest prompt, in tokens. score, standard_error and length are None where there is nothing to take them from.
    """
    scored = [sample for sample in samples if sample["error"] is None]
    score, error = weighted_mean([sample["score"] for sample in scored])
    return {
        "task": samples[0]["task"],
        "score": score,
        "standard_error": error,
        "examples": len(samples),
        "failed": len(samples) - len(scored),
        "length": max((sample["length"] for sample in scored), default=None),
    }


def summarise_nll(samples: Sequence[Sample]) -> Summary:
    """NLL in nats per token over all scored tokens of documents; length is that of the longest, in tokens."""
    nll, error = weighted_mean([sample["nll"] for sample in samples], [sample["scored"] for sample in samples])
    return {
        "nll": nll,
        "standard_error": error,
        "documents": len(samples),
        "length": max(sample["tokens"] for sample in samples),
    }
