"""The frame of the scripts that combine trials: their arguments, reading log dirs, and giving out a table."""

import argparse
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from scripts.combining.shards import JoinedTrial, join_shards
from scripts.combining.tables import FORMATS, Record
from utils.arguments import HarnessParser
from utils.errors import UserError
from utils.files import replace_file
from utils.trials.examples import read_trial
from utils.trials.files import OWN_FILES
from utils.trials.finished import label_trials, refuse_repeated
from utils.trials.methods import method_name
from utils.trials.versions import describe, differ, environments

ENDINGS = {".md": "markdown", ".tex": "latex", ".csv": "csv", ".json": "json"}


def combining_parser(description: str) -> HarnessParser:
    """A parser with LOG_DIR..., --labels, --no_join, --format and --out; its help keeps the description's lines."""
    parser = HarnessParser(description)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "log_dirs", nargs="+", metavar="LOG_DIR", help="log dir of a finished trial, or of a shard of one"
    )
    parser.add_argument(
        "--labels",
        nargs="+",
        metavar="LABEL",
        help="a name for each trial, in the order of its first LOG_DIR (default: the folder's name)",
    )
    parser.add_argument(
        "--no_join", action="store_true", help="a trial for each log dir, even where they are shards of one trial"
    )
    parser.add_argument("--format", choices=tuple(FORMATS), help="(default: what --out ends in, otherwise text)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the table to this file, too")
    parser.checks.append(_check_out)
    return parser


def load_joined(arguments: Namespace) -> list[JoinedTrial]:
    """The trials of --log_dirs, shards joined unless --no_join is given."""
    refuse_repeated(arguments.log_dirs)
    trials = [read_trial(log_dir) for log_dir in arguments.log_dirs]
    return [JoinedTrial((trial,)) for trial in trials] if arguments.no_join else join_shards(trials)


def describe_trials(joined: Sequence[JoinedTrial], labels: Sequence[str] | None) -> list[Record]:
    """The columns that every table begins with, for each trial: trial (its label), method and model.

    Where versions differ, one more tells what computed each trial.
    """
    if labels is None:
        labels = _default_labels(joined)
    if len(labels) != len(joined):
        raise UserError(f"--labels: {len(labels)} given for {len(joined)} trials, give one for each")
    described = [
        {
            "trial": label,
            "method": method_name(trial.first.script, trial.first.arguments),
            "model": trial.first.config["model"]["name"],
        }
        for label, trial in zip(labels, joined)
    ]
    took_part = [[one for shard in trial.shards for one in environments(shard.config)] for trial in joined]
    if differ(took_part):
        described = [begin | {"versions": describe(trial)} for begin, trial in zip(described, took_part)]
    return described


def give_out(records: Sequence[Record], arguments: Namespace) -> None:
    """Print the table, and write it to --out."""
    form = arguments.format or ENDINGS.get(arguments.out.suffix if arguments.out else "", "text")
    table = FORMATS[form](records)
    if arguments.out:
        try:
            replace_file(arguments.out, lambda file: file.write(f"{table}\n".encode()))
        except OSError as error:
            raise UserError(f"--out {arguments.out} cannot be written ({error.strerror}): give another file") from None
    print(table)


def _check_out(arguments: Namespace) -> None:
    out = arguments.out
    if out is None:
        return
    if out.is_dir() or not out.parent.is_dir():
        raise UserError(f"--out {out} is a folder or in one that does not exist: give a file in a folder that does")
    if out.name in OWN_FILES and out.parent.resolve() in {Path(log_dir).resolve() for log_dir in arguments.log_dirs}:
        raise UserError(f"--out {out} is a file of that trial: give another name")


def _default_labels(joined: Sequence[JoinedTrial]) -> list[str]:
    """The names of the first shards' folders, or their paths where two names are alike, and how many shards follow."""
    names = label_trials([str(trial.first.log_dir) for trial in joined])
    more = [len(trial.shards) - 1 for trial in joined]
    return [f"{name} (+{count})" if count else name for name, count in zip(names, more)]
