"""Synthetic trials of examples at several lengths, as the downstream and generation scripts leave them."""

import json

import numpy as np

from tests.scripts.example_trials import generation_sample, task_sample, write_trial


def write_lengths(folder, lengths, *, score=lambda length, depth: 1.0, depths=(0.0, 0.5, 1.0), repeats=1, **options):
    """A trial of a task with `repeats` prompts at each of these lengths and depths; more of `write_trial`'s options."""
    places = [(length, depth) for _ in range(repeats) for length in lengths for depth in depths]
    samples = [
        task_sample(
            index,
            score(length, depth),
            length=length,
            depth=depth,
            seconds=length / 1000,
            memory_bytes=2**20 * max(lengths for lengths, _ in places[: index + 1]),
        )
        for index, (length, depth) in enumerate(places)
    ]
    results = {"examples": len(samples), "task": "passkey_retrieval", "metric": "accuracy"}
    results |= {"score": 0.5, "length": max(lengths)}
    return with_pretraining_length(write_trial(folder, "eval_downstream_tasks", samples, results, **options))


def write_generation(folder, positions, *, documents=2, cache=lambda position: 1024 * position, **options):
    """A trial of generation at these positions of each document."""
    samples = [
        generation_sample(index, position, "a b", "a c", parts=len(positions))
        | {"prefill_seconds": position / 1000, "decode_seconds": 0.9, "cache_bytes": cache(position)}
        for index in range(documents)
        for position in positions
    ]
    return with_pretraining_length(write_trial(folder, "eval_generation", samples, {}, documents=documents, **options))


def with_pretraining_length(folder, length=8192):
    config = json.loads((folder / "config.json").read_text())
    config["model"]["pretraining_length"] = length
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def lambda_flags(local_branch=4096):
    """Options of a trial with Λ-attention."""
    branches = {"local_branch": local_branch, "global_branch": 10, "limit_distance": local_branch}
    return {"attention": branches, "use_lambda_attention": True, **branches}


def falling(seed, end):
    """Scores, 0 or 1, of a method that fails beyond `end` tokens, and deep in the text sooner."""
    rng = np.random.default_rng(seed)
    return lambda length, depth: float(rng.random() < 1 / (1 + (length / end) ** 3 * (1.2 - depth)))
