"""Trials of every script that a report is made of, and running its command."""

import json
import sys
from html.parser import HTMLParser

import numpy as np

from tests.scripts.example_trials import generation_sample, task_sample
from tests.scripts.example_trials import write_trial as write_example_trial
from tests.utils.trials.trial_files import token_sums, write_stream_trial, write_trial
from tests.visualization.diagnosis_files import write_diagnosis
from visualization import report

LAMBDA = {"local_branch": 4096, "global_branch": 10, "limit_distance": 4096, "top_k": None, "triangle_offset": 0.0}
FLAGS = {"use_lambda_attention": True, "local_branch": 4096, "global_branch": 10, "limit_distance": 4096}
COMMAND = ["python", "scripts/eval_ppl_deepspeed.py", "--model", "a model & more", "--log_dir", "logs/<x>"]
SHOWN = "b9 \\x01\\n\\u202e$x_ \\frac"  # as the third label is
EVIL = "</td><script>alert(1)</script>\"'&amp;"


def extend(folder, name, **fields):
    """Add fields to a JSON file of a trial."""
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    return folder


def document_trial(folder, nll, attention=None, **arguments):
    """A whole trial of eval_ppl_deepspeed whose NLL is as given."""
    rng = np.random.default_rng(0)
    write_trial(folder, [rng.gamma(1.0, 3.0, 40), rng.gamma(1.0, 3.0, 30)], **arguments)
    lines = [{"index": i, "id": f"play-{i}", "tokens": 41 - 10 * i, "scored": 40 - 10 * i} for i in range(2)]
    lines = [line | {"nll": nll + line["index"], "bytes": 99} for line in lines]
    (folder / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    buckets = [{"start": 0, "end": 32, "documents": 2, "tokens": 60, "nll": nll, "perplexity": float(np.exp(nll))}]
    extend(folder, "results.json", nll=nll, perplexity=float(np.exp(nll)), buckets=buckets)
    return extend(
        folder,
        "config.json",
        command=COMMAND,
        lambda_attention=attention,
        corpus={"name": "plays", "documents": 2},
        model={"name": "tiny", "dtype": "float32", "pretraining_length": 8, "parameters": 1234},
        versions={"torch": "2.13.0"},
        git_commit="0123abc",
        started="2026-01-31T12:34:56+00:00",
        device="cpu",
    )


def stream_trial(folder, nll=3.0):
    write_stream_trial(folder, [token_sums(np.full(99, nll)), token_sums(np.full(99, nll + 1))])
    streams = [{"stream": place, "nll": nll + place, "tokens": 99} for place in range(2)]
    buckets = [{"start": 0, "end": 100, "tokens": 198, "nll": nll, "perplexity": 20.0, "spread": 0.7}]
    extend(folder, "results.json", streaming_length=100, streams=streams, nll=nll + 0.5, perplexity=33.0)
    extend(folder, "results.json", buckets=buckets)
    return extend(folder, "config.json", corpus={"name": "plays", "documents": 38})


def generation_trial(folder):
    samples = [generation_sample(0, position, "a", "b", parts=2) for position in (30, 60)]
    positions = [
        {"position": position, "documents": 1, "failed": 0, "bleu": bleu, "bleu_standard_error": 0.01}
        for position, bleu in ((30, 0.5), (60, 0.25))
    ]
    return write_example_trial(folder, "eval_generation", samples, {"positions": positions}, documents=1)


def task_trial(folder, task="passkey_retrieval"):
    samples = [task_sample(0, 1.0, task), task_sample(1, 0.0, task), task_sample(2, None, task)]
    results = {"task": task, "metric": "accuracy", "score": 0.5, "standard_error": 0.35, "length": 1001}
    return write_example_trial(folder, "eval_downstream_tasks", samples, results | {"examples": 3, "failed": 1})


def diagnosis_trial(folder, window=None):
    """A diagnosis of full attention, or of Λ-attention with this window."""
    write_diagnosis(folder, window=window)
    config = json.loads((folder / "config.json").read_text())
    arguments = config["arguments"] | ({} if window is None else FLAGS)
    extend(folder, "config.json", arguments=arguments, corpus={"name": "plays", "documents": 2})
    at_end = {"at_end": {"position": 511, "nats": 1.0, "first": 0.1, "window": 0.8, "middle": 0.1}}
    return extend(folder, "results.json", longest=512, logits={"within": 1.0}, entropy=at_end, mass=at_end)


def three_trials(folder):
    return [
        str(document_trial(folder / "vanilla", 10.0)),
        str(document_trial(folder / "lambda", 9.5, LAMBDA, batch_size=2, **FLAGS)),
        str(task_trial(folder / "passkey")),
    ]


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["report.py", *map(str, arguments)])
    report.main()


def written(folder, patch):
    """The page of three trials with labels that are hard to show."""
    labels = ["--labels", "b10", EVIL, "b9 \x01\n\u202e$x_ \\frac"]
    run(patch, *three_trials(folder), *labels, "--title", EVIL, "--out", folder / "page.html")
    return folder / "page.html"


class Reader(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data
