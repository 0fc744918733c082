"""Writing the shards of one trial as one log dir, which reads as if the trial had been run as one job."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from scripts.combining.shards import JoinedTrial
from scripts.downstream.arguments import TaskPlan
from scripts.generation.arguments import PositionPlan
from scripts.harness.journal import Journal
from scripts.harness.skipping import joined_skips
from utils.arguments import plan_of
from utils.errors import UserError
from utils.files import TEMPORARY_SUFFIX
from utils.trials.experiments import DOWNSTREAM, GENERATION, PERPLEXITY
from utils.trials.nll_by_position import SUMS, NllStatistics
from utils.trials.trial import Trial
from utils.trials.versions import CONTINUED, environments

Results = dict[str, Any]


def write_merged(joined: JoinedTrial, log_dir: Path) -> None:
    """Write config.json, samples.jsonl, results.json and, of perplexity, nll.npz into a new `log_dir`, or nothing.

    config.json is the first shard's, with the arguments that the whole trial would have had, and tells under `shards`
    where each came from. Raises UserError where `log_dir` holds something or cannot be written.
    """
    first = joined.first
    if not first.experiment.shards:
        raise UserError(f"--merge: {first.log_dir} is of {first.script}, which has no shards: leave it out")
    if log_dir.exists() and not (log_dir.is_dir() and not any(log_dir.iterdir())):
        raise UserError(f"--merge {log_dir} holds something already: give a new folder")
    partial = log_dir.with_name(log_dir.name + TEMPORARY_SUFFIX)
    try:
        partial.mkdir(parents=True)
        _fill(Trial(partial), joined, log_dir)
        partial.rename(log_dir)
    except FileExistsError:
        raise UserError(f"--merge: {partial} is in the way: remove it, it was left by a merge that was ended") from None
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise UserError(f"--merge {log_dir} cannot be written ({error.strerror}): give another folder") from None
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _fill(trial: Trial, joined: JoinedTrial, log_dir: Path) -> None:
    trial.begin(_config(joined, log_dir))
    trial.replace_samples(joined.samples)
    skips = joined_skips([shard.results for shard in joined.shards])
    trial.finish(RESULTS_OF[joined.first.script](trial, joined) | skips)


def _config(joined: JoinedTrial, log_dir: Path) -> dict[str, Any]:
    first, last = joined.first, joined.shards[-1]
    documents = sum(len(shard.indices) for shard in joined.shards)
    whole = {"max_data_num": documents if last.arguments.get("max_data_num") is not None else None}
    took_part = [one for shard in joined.shards for one in environments(shard.config)]
    return first.config | {
        CONTINUED: [one for place, one in enumerate(took_part) if place and one not in took_part[:place]],
        "arguments": first.arguments | whole | {"log_dir": str(log_dir), "overwrite": False},
        "corpus": first.config["corpus"] | {"documents": documents},
        "shards": [
            {
                "log_dir": str(shard.log_dir),
                "start_data_from": shard.indices.start,
                "documents": len(shard.indices),
                **{name: shard.config.get(name) for name in ("started", "device", "git_commit", "versions")},
            }
            for shard in joined.shards
        ],
    }


def _totals(joined: JoinedTrial) -> Results:
    """Wall time of all shards one after the other, and the most memory that one of them took."""
    results = [shard.results for shard in joined.shards]
    return {
        "seconds": sum(result.get("seconds") or 0.0 for result in results),
        "peak_memory_bytes": max(result.get("peak_memory_bytes") or 0 for result in results),
        "device": joined.first.results.get("device"),
    }


def _task_results(trial: Trial, joined: JoinedTrial) -> Results:
    from data.tasks.registry import get_task
    from scripts.downstream.report import summarise

    plan = plan_of(TaskPlan, joined.first.arguments)
    metric = get_task(plan.dataset, plan.dataset_group).metric_name
    return summarise(Journal(trial), metric, plan, _totals(joined)["device"])


def _generation_results(trial: Trial, joined: JoinedTrial) -> Results:
    from scripts.generation.report import summarise

    plan = plan_of(PositionPlan, joined.first.arguments)
    return summarise(Journal(trial), plan, joined.first.config["corpus"]["name"], _totals(joined)["device"])


def _nll_results(trial: Trial, joined: JoinedTrial) -> Results:
    """Sum the shards' nll.npz into the trial's, and summarise it as the script does."""
    from scripts.perplexity.journal import NllJournal  # these import torch
    from scripts.perplexity.report import summarise

    totals = _totals(joined)
    state = {
        "documents": [sample["index"] for sample in joined.samples],
        "seconds": totals["seconds"],
        "peak_memory_bytes": totals["peak_memory_bytes"],
    }
    arrays = [shard.read_arrays() for shard in joined.shards]
    length = max(len(array["count"]) for array in arrays)
    sums = {name: sum(np.pad(array[name], (0, length - len(array[name]))) for array in arrays) for name in SUMS}
    trial.replace_arrays(NllStatistics(sums).arrays() | {"state": np.array(json.dumps(state))})
    return summarise(NllJournal(trial), totals["device"], bool(joined.first.arguments.get("document_mean")))


RESULTS_OF: dict[str, Callable[[Trial, JoinedTrial], Results]] = {
    DOWNSTREAM: _task_results,
    GENERATION: _generation_results,
    PERPLEXITY: _nll_results,
}
