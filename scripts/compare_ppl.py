"""Print one table of trials side by side: NLL per bucket of positions, totals, tokens/s and peak memory.

    python scripts/compare_ppl.py LOG_DIR LOG_DIR --labels vanilla lambda

NLL is in nats per token and averages the tokens of a bucket over all documents that reach it, or over the streams
of a trial, then with their standard deviation behind it. The trials must have scored the same tokens with the same
model, where streams may take the documents in another order; what else differs, versions too, is told below the table.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from data.arguments import SAME_ARGUMENTS, SAME_STREAM_ARGUMENTS
from utils.arguments import whole_number
from utils.errors import UserError
from utils.program import run_main
from utils.text_tables import Row, as_markdown, as_text
from utils.trials.arguments import trial_parser
from utils.trials.finished import lengths_to_mark
from utils.trials.nll_by_position import BUCKET_SIZE
from utils.trials.nll_of_stream import TABLE_ROWS, round_bucket
from utils.trials.nll_trials import DocumentTrial, NllTrial, StreamTrial, load_trials
from utils.trials.versions import describe, differ, environments

UNTOLD_ARGUMENTS = (
    "log_dir",
    "overwrite",
    "local_rank",
    "save_steps",
    "save_seconds",
    "max_seconds",
    "save_token_nll",
    "token_cache",
    "strict_data",
)
"""These differ, and say nothing about the numbers."""
NOTHING = "-"


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = trial_parser(__doc__)
    parser.add_argument(
        "--bucket",
        type=whole_number(1),
        metavar="TOKENS",
        help=f"positions in a row of the table (default: {BUCKET_SIZE}; for streams a round number that gives at "
        f"most {TABLE_ROWS} rows)",
    )
    parser.add_argument("--format", choices=("text", "markdown"), default="text", help="(default: text)")
    parser.add_argument(
        "--force", action="store_true", help="print the table even where the trials differ in model or text"
    )
    return parser.parse_args(argv)


def check_comparable(trials: Sequence[NllTrial]) -> None:
    """UserError that tells the differences where a trial had another model or text than the first."""
    first = trials[0]
    for other in trials[1:]:
        differences = [
            f"--{name} ({_shown(first, name)} and {_shown(other, name)})"
            for name in (SAME_STREAM_ARGUMENTS if isinstance(first, StreamTrial) else SAME_ARGUMENTS)
            if first.arguments.get(name) != other.arguments.get(name)
        ]
        if not differences and not _same_tokens(first, other):
            differences = [f"the tokens they scored ({first.tokens:,} and {other.tokens:,})"]
        if differences:
            raise UserError(
                f"{first.log_dir} and {other.log_dir} differ in {', '.join(differences)}: compare trials "
                "of the same model on the same text, or give --force"
            )


def table_rows(trials: Sequence[NllTrial], bucket: int, pretraining_length: int | None = None) -> list[Row | str]:
    """Header, one row for each bucket, then the totals; a str in the list is a line across the table."""
    labels = [trial.label for trial in trials]
    counted = _trials_to_count(trials)
    header = ["documents"] if len(counted) == 1 else [f"documents ({trial.label})" for trial in counted]
    edges = bucket_edges(max(trial.length for trial in trials), bucket)
    nll = [nll_cells(trial, edges) for trial in trials]
    documents = [bucket_documents(trial, edges) for trial in counted]
    marks = lengths_to_mark(trials, pretraining_length)
    rows: list[Row | str] = [["position", *header, *labels], ""]
    for index, (start, end) in enumerate(pairwise(edges)):
        while marks and marks[0] <= start:
            rows.append(f"pre-training length {marks.pop(0):,}")
        counts = [f"{column[index]:,}" for column in documents]
        rows.append([f"{start:,}-{end - 1:,}", *counts, *(column[index] for column in nll)])
    rows += [f"pre-training length {mark:,}" for mark in marks]
    return [*rows, "", *_summary_rows(trials, counted)]


def _trials_to_count(trials: Sequence[NllTrial]) -> Sequence[DocumentTrial]:
    """Trials whose documents per bucket are a column: one where all are alike; a stream has no number of them."""
    if isinstance(trials[0], StreamTrial):
        return []
    return trials[:1] if all(_same_tokens(trials[0], trial) for trial in trials) else trials


def choose_bucket(trials: Sequence[NllTrial], wanted: int | None) -> int:
    """Positions in a row: as wanted, else as --help tells. UserError where the trials' sums cannot give them."""
    streams = [trial for trial in trials if isinstance(trial, StreamTrial)]
    if not streams:
        return wanted or BUCKET_SIZE
    bucket = wanted or round_bucket(max(trial.length for trial in streams), TABLE_ROWS)
    for trial in streams:
        if bucket % trial.bucket and bucket < trial.length:
            raise UserError(
                f"--bucket {bucket}: {trial.log_dir} holds its sums per {trial.bucket:,} positions, give a multiple "
                "of that"
            )
    return bucket


def bucket_edges(length: int, bucket: int) -> np.ndarray:
    """0, bucket, 2 * bucket, ... and length; the last bucket may be shorter. Shape (buckets + 1,), int64."""
    return np.append(np.arange(0, length, bucket), length)


def bucket_nll(trial: NllTrial, edges: np.ndarray) -> np.ndarray:
    """Mean NLL of the tokens in each bucket, in nats; NaN where there are none. Shape (buckets,)."""
    tokens, total = (sums.sum(axis=0) for sums in trial.totals(edges))
    return np.where(tokens > 0, total / np.maximum(tokens, 1), np.nan)


def bucket_spread(trial: NllTrial, edges: np.ndarray) -> np.ndarray:
    """Standard deviation over streams of their mean NLL in each bucket; NaN where there are not two. (buckets,)"""
    tokens, total = trial.totals(edges)
    if len(tokens) < 2:
        return np.full(len(edges) - 1, np.nan)
    means = np.where(tokens > 0, total / np.maximum(tokens, 1), np.nan)
    return np.std(means, axis=0, ddof=1)


def bucket_documents(trial: DocumentTrial, edges: np.ndarray) -> np.ndarray:
    """Number of documents that reach into each bucket. Shape (buckets,), int64."""
    count = trial.arrays["count"]
    return np.array([count[start:end].max(initial=0) for start, end in pairwise(edges)])


def nll_cells(trial: NllTrial, edges: np.ndarray) -> Row:
    """Mean NLL in each bucket, with the spread over streams where there is one."""
    pairs = zip(bucket_nll(trial, edges), bucket_spread(trial, edges))
    return [_number(nll, "{:.4f}") + ("" if np.isnan(spread) else f" ± {spread:.4f}") for nll, spread in pairs]


def _summary_rows(trials: Sequence[NllTrial], counted: Sequence[DocumentTrial]) -> list[Row]:
    whole = [np.array([0, trial.length]) for trial in trials]
    nll = [nll_cells(trial, edges)[0] for trial, edges in zip(trials, whole)]
    perplexity = [np.exp(bucket_nll(trial, edges)[0]) for trial, edges in zip(trials, whole)]
    documents = [_number(trial.results.get("documents"), "{:,}") for trial in counted]
    blank = [""] * len(counted)
    speed = [trial.results.get("tokens_per_second") for trial in trials]
    memory = [trial.results.get("peak_memory_bytes") for trial in trials]
    streams = [trial.streams for trial in trials if isinstance(trial, StreamTrial)]
    stream_row = ["streams (± s.d.)" if max(streams, default=1) > 1 else "streams", *map(str, streams)]
    return [
        ["all tokens", *documents, *nll],
        ["perplexity", *blank, *(f"{value:,.2f}" for value in perplexity)],
        *([stream_row] if streams else []),
        ["scored tokens", *blank, *(f"{trial.tokens:,}" for trial in trials)],
        ["tokens/s", *blank, *(_number(value, "{:,.1f}") for value in speed)],
        ["peak memory (GiB)", *blank, *(_number(value and value / 2**30, "{:,.2f}") for value in memory)],
    ]


def differing_arguments(trials: Sequence[NllTrial]) -> list[str]:
    """One line for each trial with those arguments in which the trials differ; no line if none do."""
    names = {name: None for trial in trials for name in trial.arguments if name not in UNTOLD_ARGUMENTS}
    differing = [name for name in names if len({_shown(trial, name) for trial in trials}) > 1]
    if not differing:
        return []
    return [f"{trial.label}: " + ", ".join(f"{name} {_shown(trial, name)}" for name in differing) for trial in trials]


def differing_versions(trials: Sequence[NllTrial]) -> list[str]:
    """One line for each trial with the versions that computed it; no line if they are the same throughout."""
    took_part = [environments(trial.config) for trial in trials]
    if not differ(took_part):
        return []
    return [f"{trial.label}: computed with {describe(one)}" for trial, one in zip(trials, took_part)]


def _same_tokens(one: NllTrial, other: NllTrial) -> bool:
    """Whether as many tokens were scored at each position; of streams that follows from their lengths."""
    return isinstance(one, StreamTrial) or np.array_equal(one.arrays["count"], other.arrays["count"])


def _shown(trial: NllTrial, name: str) -> str:
    return json.dumps(trial.arguments.get(name), ensure_ascii=False)


def _number(value: float | None, form: str) -> str:
    return NOTHING if value is None or np.isnan(value) else form.format(value)


def main() -> None:
    arguments = parse_arguments()
    trials = load_trials(arguments.log_dirs, arguments.labels)
    if not arguments.force:
        check_comparable(trials)
    bucket = choose_bucket(trials, arguments.bucket)
    rows = table_rows(trials, bucket, arguments.pretraining_length)
    print(as_markdown(rows) if arguments.format == "markdown" else as_text(rows))
    for line in (*differing_arguments(trials), *differing_versions(trials)):
        print(f"\n{line}" if arguments.format == "markdown" else line)


if __name__ == "__main__":
    run_main(main)
