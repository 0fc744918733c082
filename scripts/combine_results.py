"""Trials of any evaluation script, one table: scores with their standard errors or, of proportions, 95 % intervals.

    python scripts/combine_results.py LOG_DIR... --format markdown --out results.md
    python scripts/combine_results.py SHARD SHARD... --merge LOG_DIR

Log dirs that differ in nothing but --start_data_from and --max_data_num are shards of one trial, and make one row;
documents that two of them have, or that are missing in between, are refused. --merge writes the shards of one trial as
a log dir of its own.

Columns: `length` is the longest prompt or text, or the position, in tokens; `n` counts examples with a result,
`failed` those without one; `score` is of the metric named: the task's score (from 0 to 1, of 100 with --percent),
BLEU or ROUGE (from 0 to 1), NLL in nats per token, or one of lm-eval's, on its own scale. ± is one standard error, over
examples; a score that is a proportion has Wilson's interval instead, unless it is lm-eval's. With --pivot the rows are
methods and the columns the lengths that were asked for, each with how many failed where some have.
"""

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data.text_metrics import METRICS
from data.text_metrics.positions import summarise_positions
from scripts.combining.command import combining_parser, describe_trials, give_out, load_joined
from scripts.combining.merging import write_merged
from scripts.combining.pivots import Placed, pivot
from scripts.combining.shards import JoinedTrial, refuse_different
from scripts.combining.tables import Record
from utils.bootstrap import weighted_mean
from utils.errors import UserError
from utils.program import run_main
from utils.text_tables import PERCENT, SHARE
from utils.trials.experiments import DOWNSTREAM, EXPERIMENTS, GENERATION, LM_HARNESS, PERPLEXITY, STREAMS
from utils.trials.summary import summarise_nll, summarise_task


def parse_arguments() -> Namespace:
    parser = combining_parser(__doc__)
    parser.add_argument(
        "--merge", type=Path, metavar="LOG_DIR", help="write all the log dirs, shards of one trial, as this new one"
    )
    parser.add_argument(
        "--pivot", action="store_true", help="methods x lengths: a row for each method, of scores and how many failed"
    )
    parser.checks.append(_check_merge)
    return parser.parse_args()


def _check_merge(arguments: Namespace) -> None:
    if arguments.merge and arguments.no_join:
        raise UserError("--no_join contradicts --merge, which joins shards: give one of them")


def table(joined: Sequence[JoinedTrial], labels: Sequence[str] | None, pivoted: bool = False) -> list[Record]:
    """The records of all trials: one of each, of generation one per position and metric.

    Those of one model, task and metric stand together, the shorter lengths first, as given where these are alike.
    pivoted: a record for each method instead.
    """
    described = describe_trials(joined, labels)
    rows = [
        Placed(begin | row, _asked_length(trial, row))
        for begin, trial in zip(described, joined)
        for row in ROWS_OF[trial.first.script](trial)
    ]
    if pivoted:
        return pivot(rows)
    records = [row.record for row in rows]
    kinds = list(dict.fromkeys(_kind(row) for row in records))
    return sorted(records, key=lambda row: (kinds.index(_kind(row)), row["length"] is None, row["length"] or 0))


def _kind(row: Record) -> tuple[str, str, str]:
    return row["model"], row["task"], row["metric"]


def _asked_length(trial: JoinedTrial, row: Record) -> int | None:
    """The length that its command had; of generation the position, and without a flag what was read."""
    if trial.first.script == GENERATION:
        return row["length"]
    return trial.first.arguments.get(EXPERIMENTS[trial.first.script].length) or row["length"]


def _record(
    task: str,
    metric: str,
    length: int | None,
    n: int,
    score: float | None,
    error: float | None,
    failed: int,
    interval: Sequence[float] | None = None,
) -> Record:
    low, high = interval or (None, None)
    return {
        "task": task,
        "metric": metric,
        "length": length,
        "n": n,
        "score": score,
        "score_standard_error": error,
        "score_interval_low": low,
        "score_interval_high": high,
        "failed": failed,
    }


def _task_rows(trial: JoinedTrial) -> list[Record]:
    found = summarise_task(trial.samples)
    n, metric = found["examples"] - found["failed"], trial.first.results.get("metric", "score")
    scale = PERCENT if trial.first.arguments.get("percent") else SHARE
    score, error, *interval = (
        number and scale.factor * number
        for number in (found["score"], found["standard_error"], *(found["interval"] or ()))
    )
    return [
        _record(
            found["task"], metric + scale.words, found["length"], n, score, error, found["failed"], interval or None
        )
    ]


def _generation_rows(trial: JoinedTrial) -> list[Record]:
    task = trial.first.config["corpus"]["name"]
    return [
        _record(
            task,
            metric,
            found["position"],
            found["documents"] - found["failed"],
            found[metric],
            found[f"{metric}_standard_error"],
            found["failed"],
        )
        for found in summarise_positions(trial.samples)
        for metric in METRICS
    ]


def _nll_rows(trial: JoinedTrial) -> list[Record]:
    found = summarise_nll(trial.samples)
    task = trial.first.config["corpus"]["name"]
    return [_record(task, "nll", found["length"], found["documents"], found["nll"], found["standard_error"], 0)]


def _stream_rows(trial: JoinedTrial) -> list[Record]:
    streams = trial.first.results["streams"]
    nll, error = weighted_mean([stream["nll"] for stream in streams], [stream["tokens"] for stream in streams])
    task, length = trial.first.config["corpus"]["name"], trial.first.results["streaming_length"]
    return [_record(task, "nll", length, len(streams), nll, error, 0)]


def _lm_eval_rows(trial: JoinedTrial) -> list[Record]:
    """As lm-eval gives them: one of each metric of each task and group, on the metric's own scale."""
    length = trial.first.arguments.get("max_length")
    return [
        _record(found["task"], found["metric"], length, found["n"], found["score"], found["standard_error"], 0)
        for found in trial.first.results["scores"]
    ]


ROWS_OF = {
    DOWNSTREAM: _task_rows,
    GENERATION: _generation_rows,
    PERPLEXITY: _nll_rows,
    STREAMS: _stream_rows,
    LM_HARNESS: _lm_eval_rows,
}


def main() -> None:
    arguments = parse_arguments()
    joined = load_joined(arguments)
    if arguments.merge:
        refuse_different([trial.first for trial in joined])
        write_merged(joined[0], arguments.merge)
    give_out(table(joined, arguments.labels, arguments.pivot), arguments)


if __name__ == "__main__":
    run_main(main)
