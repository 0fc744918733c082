"""Write one HTML page about a set of trials, to send to a colleague: it needs no other file and no network.

    python visualization/report.py LOG_DIR [LOG_DIR ...] --labels vanilla Λ --out report.html

Trials of any script may be mixed. The page has a table of the trials of each script that sorts by each column, their
pictures side by side, what the trials share and where they differ, and for each trial its command, arguments, versions
and numbers in full. The same trials give the same page. Without --labels, trials of one method and text follow each
other by length, and have one line in a picture.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.errors import UserError
from utils.files import replace_file
from utils.program import run_main
from utils.trials.arguments import trial_parser
from visualization.reporting.html import render
from visualization.reporting.pictures import draw_pictures
from visualization.reporting.trials import load_report_trials

SUFFIXES = (".html", ".htm")


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = trial_parser(__doc__)
    parser.add_argument(
        "--out", type=Path, default=Path("report.html"), metavar="FILE", help="page to write (default: %(default)s)"
    )
    parser.add_argument("--title", help="heading of the page (default: how many trials it compares)")
    parser.checks.append(_check_out)
    return parser.parse_args(argv)


def _check_out(arguments: argparse.Namespace) -> None:
    if arguments.out.suffix.lower() not in SUFFIXES:
        raise UserError(f"--out {arguments.out}: unsupported suffix, a page ends in {' or '.join(SUFFIXES)}")
    if arguments.out.is_dir():
        raise UserError(f"--out {arguments.out} is a folder: give the name of a file")


def write_page(path: Path, page: str) -> None:
    """Write the page whole or not at all, and make the folders that are missing."""
    content = page.encode(errors="backslashreplace")  # half a surrogate, from a file's name, becomes its escape
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, lambda file: file.write(content))
    except OSError as error:
        raise UserError(f"--out {path} cannot be written ({error.strerror}): give another file") from None


def main() -> None:
    arguments = parse_arguments()
    trials = load_report_trials(arguments.log_dirs, arguments.labels)
    pictures = draw_pictures(trials, arguments.pretraining_length, by_method=arguments.labels is None)
    write_page(arguments.out, render(trials, pictures, arguments.title))
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    run_main(main)
