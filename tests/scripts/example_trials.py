"""Synthetic trials of every evaluation script: log dirs as they leave them, from known results per example."""

import json

import numpy as np

from utils.trials.nll_by_position import NllStatistics


def write_trial(folder, script, samples, results, *, start=0, documents=None, most=None, attention=None, **arguments):
    """Write a finished trial of `documents` documents from `start` on; `documents` defaults to one for each sample."""
    folder.mkdir(parents=True)
    documents = len(samples) if documents is None else documents
    config = {
        "script": script,
        "arguments": {
            "model": "tiny",
            "dataset": "plays",
            "use_lambda_attention": attention is not None,
            "global_branch": attention and attention["global_branch"],
            "limit_distance": attention and attention["limit_distance"],
            "start_data_from": start,
            "max_data_num": most,
            "log_dir": str(folder),
            "overwrite": False,
            "batch_size": 1,
            **arguments,
        },
        "model": {"name": "tiny", "dtype": "float32"},
        "lambda_attention": attention,
        "corpus": {"name": "plays", "documents": documents},
        "started": "2026-01-01T00:00:00+00:00",
    }
    write_json(folder / "config.json", config)
    write_json(folder / "results.json", {"seconds": 2.0, "peak_memory_bytes": 100, "device": "cpu", **results})
    write_lines(folder / "samples.jsonl", samples)
    return folder


def write_json(path, value):
    path.write_text(json.dumps(value))


def write_lines(path, samples):
    path.write_text("".join(json.dumps(sample) + "\n" for sample in samples))


def read_json(path):
    return json.loads(path.read_text())


def task_sample(index, score, task="passkey_retrieval", **fields):
    """A line of eval_downstream_tasks; a score of None is a failure."""
    sample = {
        "index": index,
        "id": f"example-{index}",
        "task": task,
        "prompt_sha256": "0" * 64,
        "length": 1000 + index,
        "depth": 0.5,
        "output": "12345" if score else "no idea",
        "targets": ["12345"],
        "score": score,
        "error": None if score is not None else "memory ran out",
        "seconds": 0.5,
        "memory_bytes": 100,
    }
    return sample | ({"output": None, "length": None} if score is None else {}) | fields


def write_task_trial(folder, scores, start=0, **options):
    """Examples of one task with these scores."""
    samples = [task_sample(start + place, score) for place, score in enumerate(scores)]
    results = {"examples": len(samples), "metric": "accuracy"}
    options = {"dataset": "passkey_retrieval", "dataset_group": None, "evaluate_metrics": False, **options}
    return write_trial(folder, "eval_downstream_tasks", samples, results, start=start, **options)


def generation_sample(index, position, output, reference, parts):
    """A line of eval_generation; an output of None is a failure."""
    sample = {"index": index, "id": f"play-{index}", "parts": parts, "position": position, "output": output}
    sample |= {"reference": reference, "error": None if output is not None else "memory ran out"}
    sample |= {"seconds": 1.5, "memory_bytes": 100}
    done = {"generated": 9, "prefill_seconds": 1.0, "decode_seconds": 2.0, "batch": 1, "cache_bytes": 64}
    return sample | (done if output is not None else {})


def write_generation_trial(folder, documents, start=0, **options):
    """documents: for each, {position: (output, reference)}."""
    samples = [
        generation_sample(start + place, position, *texts, parts=len(document))
        for place, document in enumerate(documents)
        for position, texts in document.items()
    ]
    options = {"evaluate_metrics": True, "evaluate_positions": [10, 20], "documents": len(documents), **options}
    return write_trial(folder, "eval_generation", samples, {}, start=start, **options)


def write_nll_trial(folder, documents, start=0, **options):
    """documents: for each the NLL of its tokens from the second on."""
    statistics, samples = NllStatistics(), []
    for place, document in enumerate(documents):
        nll = np.array(document, dtype=np.float32)
        statistics.add(nll)
        sample = {"index": start + place, "id": f"play-{start + place}", "tokens": len(nll) + 1, "scored": len(nll)}
        samples.append(sample | {"nll": float(nll.mean(dtype=np.float64)), "bytes": 4 * len(nll)})
    write_trial(folder, "eval_ppl_deepspeed", samples, {"documents": len(samples)}, start=start, **options)
    np.savez(folder / "nll.npz", **statistics.arrays())
    return folder


def write_stream_trial(folder, nlls, length=1000, **options):
    """Streams with these mean NLLs."""
    streams = [{"stream": place, "tokens": length - 1, "nll": nll} for place, nll in enumerate(nlls)]
    results = {"streaming_length": length, "streams": streams}
    write_trial(folder, "eval_infinite_ppl", [], results, documents=38, **options)
    (folder / "samples.jsonl").unlink()
    return folder
