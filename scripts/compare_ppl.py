"""Print one table of trials side by side: NLL per bucket of positions, totals, tokens/s and peak memory.

    python scripts/compare_ppl.py LOG_DIR LOG_DIR --labels vanilla lambda

NLL is in nats per token and averages the tokens of a bucket over all documents that reach it. The trials must
have scored the same tokens with the same model; what else differs between them is told below the table.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from itertools import pairwise, zip_longest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from utils.arguments import CORPUS_ARGUMENTS, whole_number
from utils.errors import UserError, run_main
from visualization.arguments import trial_parser
from visualization.curves import window_sums
from visualization.trials import FinishedTrial, lengths_to_mark, load_trials

SAME_ARGUMENTS = ("model", "tokenizer_path", "dataset", *CORPUS_ARGUMENTS, "max_length", "truncation_side")
UNTOLD_ARGUMENTS = ("log_dir", "overwrite", "local_rank")  # these differ, and say nothing about the numbers
NOTHING = "-"

Row = list[str]


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = trial_parser(__doc__)
    parser.add_argument(
        "--bucket",
        type=whole_number(1),
        default=1024,
        metavar="TOKENS",
        help="positions in a row of the table (default: %(default)s)",
    )
    parser.add_argument("--format", choices=("text", "markdown"), default="text", help="(default: text)")
    parser.add_argument(
        "--force", action="store_true", help="print the table even where the trials differ in model or text"
    )
    return parser.parse_args(argv)


def check_comparable(trials: Sequence[FinishedTrial]) -> None:
    """UserError that tells the differences where a trial had another model or text than the first."""
    first = trials[0]
    for other in trials[1:]:
        differences = [
            f"--{name} ({_shown(first, name)} and {_shown(other, name)})"
            for name in SAME_ARGUMENTS
            if first.arguments.get(name) != other.arguments.get(name)
        ]
        if not differences and not _same_tokens(first, other):
            differences = [f"the tokens they scored ({_tokens(first):,} and {_tokens(other):,})"]
        if differences:
            raise UserError(
                f"{first.log_dir} and {other.log_dir} differ in {', '.join(differences)}: compare trials "
                "of the same model on the same text, or give --force"
            )


def table_rows(trials: Sequence[FinishedTrial], bucket: int, pretraining_length: int | None = None) -> list[Row | str]:
    """Header, one row for each bucket, then the totals; a str in the list is a line across the table."""
    labels = [trial.label for trial in trials]
    if all(_same_tokens(trials[0], trial) for trial in trials):
        counted, header = trials[:1], ["documents"]
    else:
        counted, header = trials, [f"documents ({label})" for label in labels]
    edges = bucket_edges(max(len(trial.arrays["count"]) for trial in trials), bucket)
    nll = [bucket_nll(trial, edges) for trial in trials]
    documents = [bucket_documents(trial, edges) for trial in counted]
    marks = lengths_to_mark(trials, pretraining_length)
    rows: list[Row | str] = [["position", *header, *labels], ""]
    for index, (start, end) in enumerate(pairwise(edges)):
        while marks and marks[0] <= start:
            rows.append(f"pre-training length {marks.pop(0):,}")
        rows.append(
            [
                f"{start:,}-{end - 1:,}",
                *(f"{column[index]:,}" for column in documents),
                *(_number(column[index], "{:.4f}") for column in nll),
            ]
        )
    rows += [f"pre-training length {mark:,}" for mark in marks]
    return [*rows, "", *_summary_rows(trials, counted)]


def bucket_edges(length: int, bucket: int) -> np.ndarray:
    """0, bucket, 2 * bucket, ... and length; the last bucket may be shorter. Shape (buckets + 1,), int64."""
    return np.append(np.arange(0, length, bucket), length)


def bucket_nll(trial: FinishedTrial, edges: np.ndarray) -> np.ndarray:
    """Mean NLL of the tokens in each bucket, in nats; NaN where there are none. Shape (buckets,)."""
    edges = np.minimum(edges, len(trial.arrays["count"]))
    tokens = window_sums(trial.arrays["count"], edges[:-1], edges[1:])
    total = window_sums(trial.arrays["sum"], edges[:-1], edges[1:])
    return np.where(tokens > 0, total / np.maximum(tokens, 1), np.nan)


def bucket_documents(trial: FinishedTrial, edges: np.ndarray) -> np.ndarray:
    """How many documents reach into each bucket. Shape (buckets,), int64."""
    count = trial.arrays["count"]
    return np.array([count[start:end].max(initial=0) for start, end in pairwise(edges)])


def _summary_rows(trials: Sequence[FinishedTrial], counted: Sequence[FinishedTrial]) -> list[Row]:
    nll = [float(trial.arrays["sum"].sum() / _tokens(trial)) for trial in trials]
    documents = [_number(trial.results.get("documents"), "{:,}") for trial in counted]
    blank = [""] * len(counted)
    speed = [trial.results.get("tokens_per_second") for trial in trials]
    memory = [trial.results.get("peak_memory_bytes") for trial in trials]
    return [
        ["all tokens", *documents, *(f"{value:.4f}" for value in nll)],
        ["perplexity", *blank, *(f"{np.exp(value):,.2f}" for value in nll)],
        ["scored tokens", *blank, *(f"{_tokens(trial):,}" for trial in trials)],
        ["tokens/s", *blank, *(_number(value, "{:,.1f}") for value in speed)],
        ["peak memory (GiB)", *blank, *(_number(value and value / 2**30, "{:,.2f}") for value in memory)],
    ]


def differing_arguments(trials: Sequence[FinishedTrial]) -> list[str]:
    """One line for each trial with those arguments in which the trials differ; no line if none do."""
    names = {name: None for trial in trials for name in trial.arguments if name not in UNTOLD_ARGUMENTS}
    differing = [name for name in names if len({_shown(trial, name) for trial in trials}) > 1]
    if not differing:
        return []
    return [f"{trial.label}: " + ", ".join(f"{name} {_shown(trial, name)}" for name in differing) for trial in trials]


def as_text(rows: Sequence[Row | str]) -> str:
    """The rows as columns set flush right, with rules of dashes."""
    widths = _column_widths(rows)
    total = sum(widths) + 2 * (len(widths) - 1)
    lines = []
    for row in rows:
        if isinstance(row, str):
            lines.append(f" {row} ".center(total, "-") if row else "-" * total)
        else:
            lines.append("  ".join(cell.rjust(width) for cell, width in zip(row, widths)))
    return "\n".join(lines)


def as_markdown(rows: Sequence[Row | str]) -> str:
    """The rows as a GitHub table; the first rule is the header's, one with words is a row of its own."""
    columns = len(_column_widths(rows))
    lines = []
    for index, row in enumerate(rows):
        if index == 1:
            lines.append("|" + " ---: |" * columns)
        elif isinstance(row, list):
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |")
        elif row:
            lines.append(f"| *{row}* |" + " |" * (columns - 1))
    return "\n".join(lines)


def _column_widths(rows: Sequence[Row | str]) -> list[int]:
    columns = zip_longest(*(row for row in rows if isinstance(row, list)), fillvalue="")
    return [max(len(cell) for cell in column) for column in columns]


def _tokens(trial: FinishedTrial) -> int:
    return int(trial.arrays["count"].sum())


def _same_tokens(one: FinishedTrial, other: FinishedTrial) -> bool:
    return np.array_equal(one.arrays["count"], other.arrays["count"])


def _shown(trial: FinishedTrial, name: str) -> str:
    return json.dumps(trial.arguments.get(name), ensure_ascii=False)


def _number(value: float | None, form: str) -> str:
    return NOTHING if value is None or np.isnan(value) else form.format(value)


def main() -> None:
    arguments = parse_arguments()
    trials = load_trials(arguments.log_dirs, arguments.labels)
    if not arguments.force:
        check_comparable(trials)
    rows = table_rows(trials, arguments.bucket, arguments.pretraining_length)
    print(as_markdown(rows) if arguments.format == "markdown" else as_text(rows))
    for line in differing_arguments(trials):
        print(f"\n{line}" if arguments.format == "markdown" else line)


if __name__ == "__main__":
    run_main(main)
