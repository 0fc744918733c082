"""What is kept of a task, and what comes out of all: lm-eval's own results, results.json, and words."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lm_eval.api.group import Group
from lm_eval.utils import handle_non_serializable, sanitize_list
from transformers import __version__ as transformers_version

from scripts.lm_harness.arguments import TasksPlan
from scripts.lm_harness.language_model import Counts, LmInfinite
from scripts.lm_harness.library import lm_eval_version
from utils.text_tables import as_text, counted, format_spread
from utils.trials.reading import NUMBER, is_of

Json = dict[str, Any]
STDERR, NO_FILTER = "_stderr", "none"
COUNTS = ("requests", "truncated", "windowed")


def task_line(index: int, name: str, found: Mapping[str, Any], counts: Counts) -> Json:
    """The line of samples.jsonl for a task, of what lm-eval found; a number that is not finite is null."""
    line = {
        "index": index,
        "task": name,
        "metrics": found["results"][name],
        "config": found["configs"][name],
        "version": found["versions"][name],
        "n_shot": found["n-shot"][name],
        "higher_is_better": found["higher_is_better"][name],
        "n_samples": found["n-samples"][name],
        **vars(counts),
    }
    return _plain(line)


def sample_lines(samples: Sequence[Mapping[str, Any]]) -> list[str]:
    """As lm-eval's --log_samples writes them, one for each example and filter."""
    return [json.dumps(_sample(sample), default=handle_non_serializable, ensure_ascii=False) for sample in samples]


def _sample(sample: Mapping[str, Any]) -> Json:
    arguments = {
        f"gen_args_{place}": {f"arg_{number}": value for number, value in enumerate(values)}
        for place, values in enumerate(sample["arguments"])
    }
    return {
        **sample,
        "arguments": arguments,
        "resps": sanitize_list(sample["resps"]),
        "filtered_resps": sanitize_list(sample["filtered_resps"]),
        "target": str(sample["target"]),
    }


def all_results(lines: Sequence[Json], groups: Mapping[str, Group], lm: LmInfinite, plan: TasksPlan) -> Json:
    """lm-eval's results of all tasks, in its own shape, and of the groups, which it makes of them."""
    metrics = {line["task"]: line["metrics"] for line in lines}
    known = {
        task: {name: math.nan if value is None else value for name, value in own.items()}
        for task, own in metrics.items()
    }
    joined = {name: group.aggregate(known) for name, group in groups.items()}
    whole = {
        "results": metrics | joined,
        "groups": {name: joined[name] for name, group in groups.items() if group.has_aggregation},
        "group_subtasks": {name: group.child_names for name, group in groups.items()},
        "configs": {line["task"]: line["config"] for line in lines},
        "versions": {line["task"]: line["version"] for line in lines}
        | {name: group.version for name, group in groups.items()},
        "n-shot": {line["task"]: line["n_shot"] for line in lines},
        "higher_is_better": {line["task"]: line["higher_is_better"] for line in lines},
        "n-samples": {line["task"]: line["n_samples"] for line in lines},
        "config": {"model": "lm_infinite", **lm.get_model_info(), **vars(plan)},
        "lm_eval_version": lm_eval_version(),
        "transformers_version": transformers_version,
        "max_length": lm.max_length,
    }
    return _plain(whole)


def summarise(lines: Sequence[Json], whole: Json, max_length: int | None) -> Json:
    """The content of results.json but for its costs; whole: lm-eval's results. A score is on its metric's scale."""
    return {
        "scores": [score for name, metrics in whole["results"].items() for score in _scores(name, metrics, whole)],
        "tasks": len(lines),
        "examples": sum(line["n_samples"]["effective"] for line in lines),
        **{name: sum(line[name] for line in lines) for name in COUNTS},
        "max_length": max_length,
    }


def _scores(name: str, metrics: Json, whole: Json) -> Iterator[Json]:
    """One of each metric of a task or group; lm-eval names a metric "acc,none", with the filter of the answers."""
    for key, value in metrics.items():
        metric, _, chosen = key.rpartition(",")
        if not metric or metric.endswith(STDERR) or not is_of(value, NUMBER | None):
            continue
        error = metrics.get(f"{metric}{STDERR},{chosen}")
        yield {
            "task": name,
            "group": name in whole["group_subtasks"],
            "metric": metric if chosen == NO_FILTER else key,
            "score": value,
            "standard_error": error if is_of(error, NUMBER) else None,
            "n": metrics.get("sample_len", 0),
            "higher_is_better": whole["higher_is_better"].get(name, {}).get(metric),
            "num_fewshot": whole["n-shot"].get(name),
            "version": whole["versions"].get(name),
        }


def describe(results: Json) -> str:
    """The results in words."""
    rows = [["task", "metric", "n", "score"]]
    for score in results["scores"]:
        shown = "-" if score["score"] is None else format_spread(score["score"], score["standard_error"], None)
        rows.append([score["task"], score["metric"], f"{score['n']:,}", shown])
    cut = [f"{results['truncated']:,} cut on the left"] if results["truncated"] else []
    cut += [f"{counted(results['windowed'], 'document')} read in windows"] if results["windowed"] else []
    length = f" to {results['max_length']:,} tokens" if cut else ""
    return "\n".join(
        [
            as_text(rows),
            f"{counted(results['requests'], 'request')} of {counted(results['tasks'], 'task')}"
            + (f", {' and '.join(cut)}{length}" if cut else ", none cut"),
            f"{results['seconds']:.1f} s | peak memory {results['peak_memory_bytes'] / 2**30:.2f} GiB | "
            f"{results['device']}",
        ]
    )


def _plain(value: Json) -> Json:
    """As JSON has it: what it has no type for becomes text, and a number that is not finite null."""
    return json.loads(json.dumps(value, default=handle_non_serializable), parse_constant=_no_number)


def _no_number(_: str) -> None:
    return None
