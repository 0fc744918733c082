"""Do kills change a number? Trials are killed at random moments, gone on with, and compared to the last bit.

python benchmarks/kills.py [--kills 6] [--rounds 1] [--seed 0] [--cases WORD ...] [--out logs/benchmarks]

Each case is a script on one rank or two, with whole weights or ZeRO-3, text by text, in batches, or with one sequence
for both ranks. It is run once undisturbed. A round then kills (as `kill -9`) all processes, one rank or the launcher,
once the journal has grown by some lines in this run and a moment more has passed; the same command goes on, to be
killed again, and at last to its end. All files must be those of the undisturbed trial, and whatever a kill leaves
running must end by itself. The model is small, of random weights, so that all of it takes minutes.
"""

import argparse
import os
import sys
import tempfile
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.killing.cases import CASES, Case, prepare
from benchmarks.killing.rounds import ALL, ENDS_WITHIN, FINISHES_WITHIN, LAUNCHER, RANK, Outcome, Rounds
from benchmarks.killing.runs import SETTINGS
from benchmarks.measuring.arguments import add_out_argument
from benchmarks.measuring.machine import save_results
from utils.arguments import HarnessParser, whole_number
from utils.errors import UserError
from utils.program import run_main
from utils.text_tables import as_text, counted

KINDS = (ALL, RANK, LAUNCHER)
HEADER = ["case", "rounds", "kills", *(f"of {kind}" for kind in KINDS), "too late", "differences", "hangs"]


def parse_arguments() -> Namespace:
    parser = HarnessParser(__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    number = {"type": whole_number(1), "metavar": "N"}
    parser.add_argument("--kills", default=6, help="kills in a round at most (default: %(default)s)", **number)
    parser.add_argument("--rounds", default=1, help="rounds of each case (default: %(default)s)", **number)
    parser.add_argument(
        "--seed", type=whole_number(0), default=0, metavar="N", help="moments are drawn from it (default: %(default)s)"
    )
    parser.add_argument(
        "--cases",
        nargs="+",
        default=[""],
        metavar="WORD",
        help="only cases with one of these in their names (default: all)",
    )
    add_out_argument(parser)
    return parser.parse_args()


def choose(words: Sequence[str]) -> list[Case]:
    """The cases with one of these in their names. Raises UserError where there are none."""
    found = [case for case in CASES if any(word in case.name for word in words)]
    if not found:
        names = "; ".join(case.name for case in CASES)
        raise UserError(f"--cases {' '.join(words)}: no case has any of these in its name, which are: {names}")
    return found


def run_case(case: Case, inputs: Path, folder: Path, arguments: Namespace) -> Outcome:
    """All rounds of a case; what was wrong is said at once."""
    rounds = Rounds(case, inputs, folder, arguments.seed)
    rounds.begin()
    for _ in range(arguments.rounds):
        rounds.round(arguments.kills)
    outcome = rounds.outcome
    print(f"{case.name}: {counted(outcome.hits, 'kill')} in {counted(outcome.rounds, 'round')}", flush=True)
    for line in (*outcome.differences, *outcome.hangs):
        print(f"  {line}", flush=True)
    return outcome


def table(outcomes: Sequence[Outcome]) -> str:
    """A row for each case, and one for all."""
    rows = [row_of(outcome) for outcome in outcomes]
    total = ["all", *(str(sum(int(row[place]) for row in rows)) for place in range(1, len(HEADER)))]
    return as_text([HEADER, "", *rows, "", total])


def row_of(outcome: Outcome) -> list[str]:
    kinds = [outcome.kills.get(kind, 0) for kind in KINDS]
    numbers = [outcome.rounds, outcome.hits, *kinds, outcome.missed, len(outcome.differences), len(outcome.hangs)]
    return [outcome.case, *map(str, numbers)]


def main() -> None:
    arguments = parse_arguments()
    cases = choose(arguments.cases)
    os.environ |= SETTINGS
    with tempfile.TemporaryDirectory(prefix="kills-", ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary)
        prepare(folder, arguments.seed)
        outcomes = [run_case(case, folder, folder / f"case_{number}", arguments) for number, case in enumerate(cases)]
    limits = {"ends_within_seconds": ENDS_WITHIN, "finishes_within_seconds": FINISHES_WITHIN}
    results = {"seed": arguments.seed, **limits, "cases": [asdict(outcome) for outcome in outcomes]}
    path = save_results(arguments.out, "kills", "cpu", results)
    print(f"\n{table(outcomes)}\nwrote {path}")
    wrong = sum(len(outcome.differences) + len(outcome.hangs) for outcome in outcomes)
    if wrong:
        raise UserError(f"{counted(wrong, 'fault')}: see above")


if __name__ == "__main__":
    run_main(main)
