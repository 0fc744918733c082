"""What the evaluation scripts leave per example in a log dir, and reading it back, checked.

The contract between the scripts that write trials and those that combine them. Every trial has

config.json    `script` (a key of SAMPLE_FIELDS, or STREAMS), `arguments`, `model` {"name", ...}, `lambda_attention`
               and `corpus` {"name", "documents"}: `documents` examples were selected, and their indices are
               --start_data_from, --start_data_from + 1, ...
results.json   there once every example has its lines
samples.jsonl  one JSON object a line, in any order; `index` is the example's, `error` null or the sentence that says
               why it failed

eval_downstream_tasks, one line per example, all of one `task`: `id`, `prompt_sha256`, `length` of the prompt in tokens,
`depth` of the answer in it from 0 to 1 or null, `output`, `targets` (list of texts), `score` from 0 to 1, `seconds`,
`memory_bytes`. Where `error` is a sentence, `score` is null, and only `index`, `id` and `task` need be there besides.
results.json counts the lines as `examples` and names the `metric`.

eval_generation, one line per document and `position` (in tokens) that it reaches past, `parts` lines for a document:
`id`, `reference`, `output`, `seconds`, `memory_bytes` and, where it did not fail, `generated` (tokens),
`prefill_seconds` (from the start of the text to this position) and `decode_seconds`, both of all `batch` texts read
together, and `cache_bytes` of this one. Where `error` is a sentence, `output` is null.

eval_ppl_deepspeed, one line per document: `id`, `tokens`, `scored` (tokens with an NLL), `nll` (their mean, in nats),
`bytes` of the scored text. results.json counts the lines as `documents`.

eval_infinite_ppl has a line per chunk, which nobody combines: results.json holds `streaming_length` and `streams`, each
with `nll`, `tokens`.
"""

import json
import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from utils.errors import UserError
from utils.trials.files import CONFIG, RESULTS, SAMPLES
from utils.trials.reading import DAMAGED, read_json

DOWNSTREAM, GENERATION = "eval_downstream_tasks", "eval_generation"
PERPLEXITY, STREAMS = "eval_ppl_deepspeed", "eval_infinite_ppl"
SCRIPTS = (DOWNSTREAM, GENERATION, PERPLEXITY, STREAMS)

NUMBER = int | float
KINDS: dict[Any, str] = {
    int: "a whole number",
    NUMBER: "a number",
    str: "a text",
    list[str]: "a list of texts",
    NUMBER | None: "a number or null",
    int | None: "a whole number or null",
    str | None: "a text or null",
}
SAMPLE_FIELDS: dict[str, dict[str, Any]] = {
    DOWNSTREAM: {"index": int, "id": str, "task": str, "score": NUMBER | None, "error": str | None},
    GENERATION: {
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
    PERPLEXITY: {"index": int, "id": str, "tokens": int, "scored": int, "nll": NUMBER, "bytes": int},
}
"""What every line of samples.jsonl holds."""
FINISHED_FIELDS: dict[str, dict[str, Any]] = {
    DOWNSTREAM: {
        "prompt_sha256": str,
        "length": int,
        "depth": NUMBER | None,
        "output": str,
        "targets": list[str],
        "seconds": NUMBER,
        "memory_bytes": int | None,
    },
    GENERATION: {
        "generated": int,
        "prefill_seconds": NUMBER,
        "decode_seconds": NUMBER,
        "batch": int,
        "cache_bytes": int,
    },
    PERPLEXITY: {},
}
"""What a line holds besides where its `error` is null."""
COUNTED_AS = {DOWNSTREAM: "examples", PERPLEXITY: "documents"}
"""What results.json calls the number of lines of samples.jsonl."""
OUTCOME = {DOWNSTREAM: "score", GENERATION: "output"}
"""The field that is null where an example failed."""
Sample = dict[str, Any]


@dataclass(frozen=True)
class ExampleTrial:
    """One finished trial. samples: the lines of samples.jsonl in the order of their index, and position if any."""

    log_dir: Path
    config: dict[str, Any]
    results: dict[str, Any]
    samples: list[Sample] = field(default_factory=list)

    @property
    def script(self) -> str:
        """One of SCRIPTS."""
        return self.config["script"]

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments it was run with, by flag name without dashes."""
        return self.config["arguments"]

    @property
    def indices(self) -> range:
        """Which documents of the corpus it selected."""
        start = self.arguments.get("start_data_from") or 0
        return range(start, start + self.config["corpus"]["documents"])


def read_trial(log_dir: str | Path) -> ExampleTrial:
    """Read one finished trial; UserError names the file, and the line, that is missing or is not as it must be."""
    folder = Path(log_dir)
    if not folder.is_dir():
        raise UserError(f"log dir {folder} is not a folder: give the --log_dir of a finished trial")
    config = read_json(folder / CONFIG)
    _check_config(config, folder / CONFIG)
    results = read_json(folder / RESULTS)
    if config["script"] == STREAMS:
        _check_streams(results, folder / RESULTS)
        return ExampleTrial(folder, config, results)
    trial = ExampleTrial(folder, config, results, _read_samples(folder / SAMPLES, config["script"]))
    _check_samples(trial)
    return trial


def _check_config(config: dict[str, Any], path: Path) -> None:
    if not isinstance(config.get("arguments"), dict):
        raise UserError(f"{path} holds no arguments: it is damaged, or no trial's config")
    if config.get("script") not in SCRIPTS:
        raise UserError(f"{path} is of script {config.get('script')!r}: give trials of {', '.join(SCRIPTS)}")
    model, corpus = config.get("model"), config.get("corpus")
    if not isinstance(model, dict) or not isinstance(model.get("name"), str):
        raise UserError(f"{path} holds no name of a model: {DAMAGED}")
    if not isinstance(corpus, dict) or not (isinstance(corpus.get("name"), str) and _is(corpus.get("documents"), int)):
        raise UserError(f"{path} holds no name and number of documents of a corpus: {DAMAGED}")


def _check_streams(results: dict[str, Any], path: Path) -> None:
    streams = results.get("streams")
    complete = isinstance(streams, list) and streams and _is(results.get("streaming_length"), int)
    if not complete or not all(
        isinstance(stream, dict) and _is(stream.get("nll"), NUMBER) and _is(stream.get("tokens"), int)
        for stream in streams
    ):
        raise UserError(f"{path} holds no streaming_length and streams with nll and tokens: {DAMAGED}")


def _read_samples(path: Path, script: str) -> list[Sample]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}): {DAMAGED}") from None
    samples = []
    for number, line in enumerate(lines, start=1):
        try:
            sample = json.loads(line)
        except ValueError:
            sample = None
        _check_sample(sample, script, f"{path} line {number}")
        samples.append(sample)
    return sorted(samples, key=_place)


def _check_sample(sample: Any, script: str, where: str) -> None:
    if not isinstance(sample, dict):
        raise UserError(f"{where} is no JSON object: {DAMAGED}")
    fields = SAMPLE_FIELDS[script]
    if sample.get("error") is None:
        fields = fields | FINISHED_FIELDS[script]
    for name, kind in fields.items():
        if name not in sample:
            raise UserError(f"{where} lacks {name!r}, which must be {KINDS[kind]}: {DAMAGED}")
        if not _is(sample[name], kind):
            raise UserError(f"{where} has {name!r} {json.dumps(sample[name])}, which must be {KINDS[kind]}: {DAMAGED}")
    outcome = OUTCOME.get(script)
    if outcome and (sample[outcome] is None) != (sample["error"] is not None):
        raise UserError(f"{where} must have either {outcome!r} or 'error', the other one null: {DAMAGED}")
    if script == DOWNSTREAM and not 0 <= (sample["score"] or 0) <= 1:
        raise UserError(f"{where} has 'score' {sample['score']}, which must be from 0 to 1: {DAMAGED}")


def _check_samples(trial: ExampleTrial) -> None:
    """Refuse lines that are not those of the trial's config.json and results.json."""
    path, places = trial.log_dir / SAMPLES, set()
    for sample in trial.samples:
        if sample["index"] not in trial.indices:
            raise UserError(f"{path} has document {sample['index']}, which {CONFIG} does not select: {DAMAGED}")
        if _place(sample) in places:
            raise UserError(f"{path} has document {sample['index']} twice: {DAMAGED}")
        places.add(_place(sample))
    counted = trial.results.get(COUNTED_AS[trial.script]) if trial.script in COUNTED_AS else len(trial.samples)
    if counted != len(trial.samples):
        raise UserError(f"{path} has {len(trial.samples)} lines where {RESULTS} counts {counted}: {DAMAGED}")
    lines = Counter(sample["index"] for sample in trial.samples)
    for sample in trial.samples:
        if lines[sample["index"]] != sample.get("parts", 1):
            raise UserError(f"{path} lacks lines of document {sample['index']}: {DAMAGED}")
    if not trial.samples:
        raise UserError(f"{path} holds no example: there is nothing to show of this trial")
    tasks = sorted({sample.get("task", "") for sample in trial.samples})
    if len(tasks) > 1:
        raise UserError(f"{path} holds examples of {' and '.join(tasks)}: a trial is of one task")


def _place(sample: Sample) -> tuple[int, int]:
    return sample["index"], sample.get("position", 0)


def _is(value: Any, kind: Any) -> bool:
    if kind == list[str]:
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    if isinstance(value, float) and not math.isfinite(value):
        return False
    return isinstance(value, kind) and not isinstance(value, bool)
