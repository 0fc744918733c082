"""BLEU and ROUGE of generated texts, one table: a row for each trial of eval_generation.py and position.

    python scripts/combine_evaluate_generation.py LOG_DIR... --labels vanilla lambda --out generation.md

Log dirs that differ in nothing but --start_data_from and --max_data_num are shards of one trial: their texts count
together. The numbers are computed from samples.jsonl, whether the trial was run with --evaluate_metrics or not; the
standard errors are by bootstrap over documents. A text that failed counts as failed, and for nothing else.
"""

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data.text_metrics import UNSEEN
from data.text_metrics.positions import summarise_positions
from scripts.combining.command import combining_parser, describe_trials, give_out, load_joined
from scripts.combining.shards import JoinedTrial
from scripts.combining.tables import Record
from utils.errors import UserError
from utils.program import run_main
from utils.trials.experiments import GENERATION


def parse_arguments() -> Namespace:
    return combining_parser(__doc__).parse_args()


def table(joined: Sequence[JoinedTrial], labels: Sequence[str] | None) -> list[Record]:
    """A record for each trial and position; raises UserError on a trial that generated nothing."""
    for trial in joined:
        if trial.first.script != GENERATION:
            raise UserError(
                f"log dir {trial.first.log_dir} is of {trial.first.script}: give trials of {GENERATION}, and others to "
                "scripts/combine_results.py"
            )
    described = describe_trials(joined, labels)
    return [begin | row for begin, trial in zip(described, joined) for row in _rows(trial)]


def _rows(trial: JoinedTrial) -> list[Record]:
    """What a trial's own report counts besides has no column."""
    return [
        {name: value for name, value in row.items() if name != UNSEEN} for row in summarise_positions(trial.samples)
    ]


def main() -> None:
    arguments = parse_arguments()
    give_out(table(load_joined(arguments), arguments.labels), arguments)


if __name__ == "__main__":
    run_main(main)
