"""Synthetic diagnoses: log dirs as scripts/diagnose.py leaves them, from known numbers of each document."""

import json
from pathlib import Path

import numpy as np

from models.diagnosis.plan import Plan, even_edges, spread_positions
from scripts.diagnosis.documents import DocumentFiles
from scripts.diagnosis.summary import summarise_documents
from utils.files import replace_arrays

QUERIES = 16


def write_diagnosis(
    folder: Path,
    *,
    length: int = 512,
    documents: int = 2,
    layers: tuple[int, ...] = (0, 1, 2, 3, 4),
    heads: int = 3,
    pretraining_length: int | None = 256,
    window: int | None = None,
    growth: tuple[int, int] = (1, 1),
    seed: int = 0,
) -> Path:
    """Write a trial of these measured layers; window: Λ-attention's, None for full attention.

    The logits of head growth[1] of the measured layer growth[0] rise past 256 tokens, where there is full attention.
    """
    folder.mkdir(parents=True)
    near = 128 if window is None else window
    plan = Plan(QUERIES, even_edges(length, 32), spread_positions(length, 16), 4, near, 20)
    rng = np.random.default_rng(seed)
    files = DocumentFiles(folder)
    for index in range(documents):
        files.save(index, _document(rng, plan, length, len(layers), heads, window, growth))
    arrays = summarise_documents(files, range(documents), plan, layers)
    files.remove_all()
    replace_arrays(folder / "stats.npz", arrays)
    config = {
        "script": "diagnose",
        "arguments": {"model": "tiny", "dataset": "plays", "max_length": length, "num_queries": QUERIES},
        "model": {"name": "tiny", "pretraining_length": pretraining_length},
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "results.json").write_text(json.dumps({"documents": documents}))
    return folder


def _document(rng, plan, length, layers, heads, window, growth):
    """What `Measurement.arrays` gives."""
    distance = plan.distance_edges[:-1]
    far = length - QUERIES - plan.first_tokens
    largest = rng.normal(0, 0.3, (layers, heads, len(distance))) - distance / length
    if window is None:
        largest[*growth] += 8 * (distance >= 256)
    else:
        largest[..., (distance >= window) & (distance < far)] = np.nan
    largest[..., distance >= far] += 5  # the first tokens
    keys = plan.positions + 1 if window is None else np.minimum(plan.positions + 1, window + plan.first_tokens)
    first = rng.uniform(0.2, 0.3, (layers, heads, len(keys)))
    middle = np.broadcast_to(0.1 * (window is None) * (plan.positions >= plan.window), first.shape)
    hidden = rng.normal(size=(layers, plan.num_hidden, 8))
    hidden[:, : plan.first_tokens, 0] += 20
    document = {
        "logit_max": largest,
        "logit_mean": largest - 2,
        "logit_bound": np.fmax.accumulate(largest, axis=-1),
        "entropy": rng.uniform(0.3, 0.5, first.shape) * np.log(keys),
        "mass_first": first,
        "mass_window": 1 - first - middle,
        "mass_middle": middle,
        "attended": np.broadcast_to(keys, (layers, len(keys))),
        "hidden": hidden,
    }
    return {name: values.astype(np.int64 if name == "attended" else np.float32) for name, values in document.items()}
