"""The headline numbers of a diagnosis, one group per factor, and how they are shown."""

import warnings
from typing import Any

import numpy as np

from scripts.harness.journal import Journal
from scripts.harness.skipping import describe_skips
from utils.text_tables import counted
from utils.trials.diagnosis_arrays import relative_entropy

Arrays = dict[str, np.ndarray]
Numbers = dict[str, Any]


def summarise(journal: Journal, arrays: Arrays, pretraining_length: int | None, device: str) -> Numbers:
    """The content of results.json. Numbers are means over layers and heads unless their name says otherwise; logits and
    entropy are in nats. None where the texts do not reach that far.
    """
    tokens = sum(line["tokens"] for line in journal.lines)
    return {
        "documents": len(journal.lines),
        "tokens": tokens,
        "longest": max(line["tokens"] for line in journal.lines),
        "seconds": journal.seconds,
        "tokens_per_second": tokens / journal.seconds,
        "peak_memory_bytes": journal.peak_memory,
        "device": device,
        "pretraining_length": pretraining_length,
        "layers": arrays["layers"].tolist(),
        "logits": _logits(arrays, pretraining_length),
        "entropy": _at_positions(arrays, pretraining_length, _entropy),
        "mass": _at_positions(arrays, pretraining_length, _mass),
        "hidden": _hidden(arrays),
    }


def _logits(arrays: Arrays, pretraining_length: int | None) -> Numbers:
    """Per head the largest logit (the mean over documents of their maxima) at distances within the pre-training length
    and beyond it; heads_exceeding: the share of heads in which the latter is the larger.
    """
    edges, largest = arrays["distance_edges"], arrays["logit_max_mean"]
    split = len(edges) if pretraining_length is None else int(np.searchsorted(edges[:-1], pretraining_length))
    within, beyond = _largest(largest[..., :split]), _largest(largest[..., split:])
    both = ~(np.isnan(within) | np.isnan(beyond))
    return {
        "within": _mean(within),
        "beyond": _mean(beyond),
        "largest_within": _number(_largest(within.reshape(1, -1))[0]),
        "largest_beyond": _number(_largest(beyond.reshape(1, -1))[0]),
        "heads_exceeding": float((beyond > within)[both].mean()) if both.any() else None,
    }


def _at_positions(arrays: Arrays, pretraining_length: int | None, measure) -> Numbers:
    """`measure(arrays, place)` at the last sampled position within the pre-training length and at the last of all."""
    positions = arrays["positions"]
    reached = np.flatnonzero(arrays["attended"][0] > 0)
    end = int(reached[-1])
    within = end if pretraining_length is None else int(np.searchsorted(positions, pretraining_length)) - 1
    last_within = measure(arrays, within) if within < end else None
    return {"at_pretraining_length": last_within, "at_end": measure(arrays, end)}


def _entropy(arrays: Arrays, place: int) -> Numbers:
    entropy, position = arrays["entropy_mean"][..., place], int(arrays["positions"][place])
    attended = arrays["attended"][:, None, place]
    return {
        "position": position,
        "nats": _mean(entropy),
        "relative_to_attended": _mean(relative_entropy(entropy, attended)),
        "relative_to_all": _mean(relative_entropy(entropy, np.array(position + 1))),
    }


def _mass(arrays: Arrays, place: int) -> Numbers:
    shares = {name: _mean(arrays[f"mass_{name}_mean"][..., place]) for name in ("first", "window", "middle")}
    return {"position": int(arrays["positions"][place]), **shares}


def _hidden(arrays: Arrays) -> Numbers:
    """Per measured layer. explained: the share of variance in the components kept. apart and farthest: the mean and the
    largest distance of a first token from the centre of the others, in root-mean-square distances of the others from
    it; the mean over documents, None without first tokens.
    """
    position, first = arrays["hidden_position"], int(arrays["first_tokens"])
    apart = [_apart(layer, position, first) for layer in arrays["hidden_coordinates"]]
    return {
        "explained": [_number(share) for share in arrays["explained_variance_ratio"].sum(1)],
        "apart": [_mean(distances) for distances in apart],
        "farthest": [_number(_largest(distances)) for distances in apart],
    }


def _apart(coordinates: np.ndarray, position: np.ndarray, first: int) -> np.ndarray:
    """The distance of each first token, `[<= first]`; coordinates `[s, c]` and position `[s]` of all."""
    others = coordinates[position >= first]
    if not len(others):
        return np.zeros(0)
    distance = np.linalg.norm(coordinates - others.mean(0), axis=1)
    radius = np.sqrt(np.square(distance[position >= first]).mean())
    tokens = range(min(first, int(position.max()) + 1))
    return np.array([distance[position == token].mean() / radius if radius else np.nan for token in tokens])


def _largest(values: np.ndarray) -> np.ndarray:
    """Over the last axis, NaN where there is none."""
    return np.fmax.reduce(values, axis=-1, initial=np.nan)


def _mean(values: np.ndarray) -> float | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of nothing the mean is NaN
        return _number(np.nanmean(values))


def _number(value: float) -> float | None:
    """For JSON, which has no NaN."""
    return float(value) if np.isfinite(value) else None


def describe(results: Numbers) -> str:
    """The results as one paragraph per factor and a line of totals."""
    logits, hidden = results["logits"], results["hidden"]
    lines = [
        "1. logits against distance, largest per head",
        f"   within the pre-training length {_text(logits['within'])}, beyond it {_text(logits['beyond'])} (largest of "
        f"all {_text(logits['largest_within'])} and {_text(logits['largest_beyond'])}); larger beyond in "
        f"{_percent(logits['heads_exceeding'])} of heads",
        "2. entropy of the attention, and 4. where its mass falls",
        *_rows(results),
        "3. hidden states of the first tokens, projected",
        "   distance of the farthest of them from all others, in radii of these, per layer: "
        f"{_listed(hidden['farthest'])}",
        *describe_skips(results).splitlines(),
        f"   {results['tokens']:,} tokens of {counted(results['documents'], 'document')}, up to "
        f"{results['longest']:,} | "
        f"{results['seconds']:.1f} s | {results['tokens_per_second']:,.0f} tokens/s | peak memory "
        f"{results['peak_memory_bytes'] / 2**30:.2f} GiB per rank | {results['device']}",
    ]
    return "\n".join(lines)


def _rows(results: Numbers) -> list[str]:
    rows = [
        f"   {'position':>10} {'nats':>8} {'/ log keys':>10} {'/ log n':>8} {'first':>7} {'window':>7} {'middle':>7}"
    ]
    for when in ("at_pretraining_length", "at_end"):
        entropy, mass = results["entropy"][when], results["mass"][when]
        if entropy is None:
            continue
        shares = " ".join(f"{_percent(mass[name]):>7}" for name in ("first", "window", "middle"))
        rows.append(
            f"   {entropy['position']:>10,} {_text(entropy['nats']):>8} {_text(entropy['relative_to_attended']):>10} "
            f"{_text(entropy['relative_to_all']):>8} {shares}"
        )
    return rows


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _listed(values: list[float | None]) -> str:
    return " ".join("-" if value is None else f"{value:.1f}" for value in values)
