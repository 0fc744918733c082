"""The list of experiments: one record each of what their trials are and hold, which everything else is keyed by.

Every trial has

config.json    `script` (a key of EXPERIMENTS), `arguments`, `model` {"name", ...}, `lambda_attention` and `corpus`
               {"name", "documents"}: `documents` examples were selected, and their indices are --start_data_from,
               --start_data_from + 1, ...
results.json   there once every example has its lines
samples.jsonl  one JSON object a line, in any order; `index` is the example's, `error` null or the sentence that says
               why it failed

eval_downstream_tasks, one line per example, all of one `task`: `id`, `prompt_sha256`, `length` of the prompt in tokens,
`shared_tokens` of these that were read for another prompt, `depth` of the answer in it from 0 to 1 or null, `output`,
`targets` (list of texts), `score` from 0 to 1, `seconds`, `memory_bytes`. Where `error` is a sentence, `score` is null,
and only `index`, `id` and `task` need be there besides.
results.json counts the lines as `examples` and names the `metric`.

eval_generation, one line per document and `position` (in tokens) that it reaches past, `parts` lines for a document:
`id`, `reference`, `output`, `seconds`, `memory_bytes` and, where it did not fail, `generated` (tokens),
`prefill_seconds` (from the start of the text to this position) and `decode_seconds`, both of all `batch` texts read
together, and `cache_bytes` of this one. Where `error` is a sentence, `output` is null.

eval_ppl_deepspeed, one line per document: `id`, `tokens`, `scored` (tokens with an NLL), `nll` (their mean, in nats),
`bytes` of the scored text. results.json counts the lines as `documents`.

eval_infinite_ppl has a line per chunk, which nobody combines: results.json holds `streaming_length` and `streams`, each
with `nll`, `tokens`. diagnose has a line per document, which is the script's own.

eval_lm_harness has a line per task of lm-eval, the script's own too: results.json holds `scores`, one of each metric of
a task or group, each with `task`, `metric`, `score`, `standard_error` and `n`, the number of its examples.

An experiment more is a record here, a folder in scripts/ and a command of its name; a test names the tables that lack
it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from utils.trials.diagnosis_arrays import read_diagnosis_arrays
from utils.trials.files import ARRAYS, STREAM_ARRAYS
from utils.trials.reading import NUMBER, read_position_arrays, read_stream_arrays

DOWNSTREAM, GENERATION = "eval_downstream_tasks", "eval_generation"
PERPLEXITY, STREAMS = "eval_ppl_deepspeed", "eval_infinite_ppl"
DIAGNOSIS, LM_HARNESS = "diagnose", "eval_lm_harness"
LAST_TOKENS = "--local_branch"
"""Value of a flag: as many tokens as the window would hold."""
Fields = Mapping[str, Any]
"""Types of fields by name, keys of `reading.TYPE_WORDS`."""


@dataclass(frozen=True)
class Lines:
    """Lines of samples.jsonl that others read.

    always: fields of every line. finished: fields that a line has besides where its `error` is null.
    outcome: the field that is null where an example failed. counted_as: the number of lines in results.json.
    """

    always: Fields
    finished: Fields = field(default_factory=dict)
    outcome: str | None = None
    counted_as: str | None = None


@dataclass(frozen=True)
class Arrays:
    """A file of arrays in the log dir, and its reader, which checks them."""

    name: str
    read: Callable[[Path], dict[str, np.ndarray]]


@dataclass(frozen=True)
class Experiment:
    """An experiment, by the script that runs it.

    name: of the script, without .py, as config.json has it.
    scored: whether it gives scores, to be swept over and set side by side in a table.
    shards: whether its documents may be split among jobs, by --start_data_from and --max_data_num.
    lines, arrays: None where there are none that others read.
    length, texts: the flags that say how long its texts are, and which they are.
    truncation: the flags by which it reads the last tokens only; None where it cannot.
    refused: methods and arguments that make no sense there, with the reason.
    """

    name: str
    scored: bool
    shards: bool
    lines: Lines | None = None
    arrays: Arrays | None = None
    length: str = "max_length"
    texts: str = "dataset"
    truncation: Mapping[str, Any] | None = None
    refused: Mapping[str, str] = field(default_factory=dict)


def _no_top_k(reason: str) -> dict[str, str]:
    return dict.fromkeys(
        ("lm_infinite_top_k", "top_k_attention"), f"only the last token of a forward takes the top k, and {reason}"
    )


_DOCUMENTS = {"max_length": LAST_TOKENS, "truncation_side": "left"}
_PROMPTS = {"runtime_truncation": LAST_TOKENS}
_ALL = (
    Experiment(
        DOWNSTREAM,
        scored=True,
        shards=True,
        lines=Lines(
            always={"index": int, "id": str, "task": str, "score": NUMBER | None, "error": str | None},
            finished={
                "prompt_sha256": str,
                "length": int,
                "depth": NUMBER | None,
                "output": str,
                "targets": list[str],
                "seconds": NUMBER,
                "memory_bytes": int | None,
            },
            outcome="score",
            counted_as="examples",
        ),
        truncation=_PROMPTS,
    ),
    Experiment(
        GENERATION,
        scored=True,
        shards=True,
        lines=Lines(
            always={
                "index": int,
                "id": str,
                "position": int,
                "output": str | None,
                "reference": str,
                "error": str | None,
                "parts": int,
                "seconds": NUMBER,
                "memory_bytes": int,
            },
            finished={
                "generated": int,
                "prefill_seconds": NUMBER,
                "decode_seconds": NUMBER,
                "batch": int,
                "cache_bytes": int,
            },
            outcome="output",
        ),
        truncation=_PROMPTS,
    ),
    Experiment(
        PERPLEXITY,
        scored=True,
        shards=True,
        lines=Lines(
            always={"index": int, "id": str, "tokens": int, "scored": int, "nll": NUMBER, "bytes": int},
            counted_as="documents",
        ),
        arrays=Arrays(ARRAYS, read_position_arrays),
        truncation=_DOCUMENTS,
        refused=_no_top_k("here every token is scored"),
    ),
    Experiment(
        STREAMS,
        scored=True,
        shards=False,  # each stream is of the whole text
        arrays=Arrays(STREAM_ARRAYS, read_stream_arrays),
        length="streaming_length",
        refused={
            **_no_top_k("here every token is scored"),
            "truncate": "a stream has no last tokens, take window",
            "dynamic_ntk": "its frequencies would change along the stream, but not those of the keys in the cache",
        },
    ),
    Experiment(
        DIAGNOSIS,
        scored=False,
        shards=False,
        arrays=Arrays(STREAM_ARRAYS, read_diagnosis_arrays),
        truncation=_DOCUMENTS,
        refused=_no_top_k("a diagnosis reads a text in one"),
    ),
    Experiment(
        LM_HARNESS,
        scored=True,
        shards=False,  # what is scored of a task is scored of all of its examples
        texts="tasks",
        truncation={"max_length": LAST_TOKENS},
    ),
)
EXPERIMENTS = {experiment.name: experiment for experiment in _ALL}
SCORED = tuple(experiment.name for experiment in _ALL if experiment.scored)
