"""Models x tasks x lengths x methods: one trial of an evaluation script per cell, each in a log dir of its own.

    python scripts/sweep.py configs/sweeps/passkey.json --log_root logs/passkey --dry-run
    python scripts/sweep.py --tasks passkey_retrieval ruler/vt --lengths 2048 4096 --methods vanilla lm_infinite \\
        --log_root logs/table -- --num_samples 20 --silent
    python scripts/combine_results.py logs/table/*--*

utils/sweeping.py says what the file holds; flags count instead of what it says, and what follows `--` goes to every
cell. Cells that are finished are skipped, the others begun or gone on with; those that fail are named at the end.
"""

import json
import shlex
import subprocess
import sys
from argparse import Namespace, RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from utils.arguments import HarnessParser, whole_number
from utils.errors import UserError
from utils.files import replace_json
from utils.program import run_main
from utils.sweeping import AXES, SCRIPTS, Cell, cells, read_sweep
from utils.trials.methods import METHODS

RESULTS = "results.json"
RECORD = "sweep.json"
"""In the root: the arguments that each cell was last begun with."""


def parse_arguments() -> Namespace:
    parser = HarnessParser(__doc__)
    parser.formatter_class = RawDescriptionHelpFormatter
    parser.add_argument("sweep", nargs="?", type=Path, metavar="FILE", help="a sweep, as JSON (default: the flags say)")
    parser.add_argument("--script", choices=SCRIPTS, help=f"what every cell runs (default: {SCRIPTS[0]})")
    parser.add_argument("--models", nargs="+", metavar="NAME", help="values of --model")
    parser.add_argument("--tasks", nargs="+", metavar="NAME", help="values of --dataset")
    parser.add_argument(
        "--lengths", nargs="+", type=whole_number(2), metavar="TOKENS", help="of --max_length, or --streaming_length"
    )
    parser.add_argument("--methods", nargs="+", choices=METHODS, metavar="NAME", help="values of --method")
    parser.add_argument("--log_root", type=Path, default=Path("logs/sweep"), metavar="DIR", help="cells go to DIR/CELL")
    parser.add_argument(
        "--launcher",
        type=shlex.split,
        default=[sys.executable],
        metavar="COMMAND",
        help='what starts the script, such as "deepspeed --num_gpus 1" (default: this Python)',
    )
    parser.add_argument("--dry-run", action="store_true", help="print the commands and run none")
    words, extra = _split(sys.argv[1:])
    arguments = parser.parse_args(words)
    return Namespace(**vars(arguments), extra=tuple(extra))


def main() -> None:
    """Run the cells that are not finished. Raises UserError naming those that failed."""
    arguments = parse_arguments()
    sweep = requested(arguments)
    failed, planned = [], cells(sweep)
    for number, cell in enumerate(planned, start=1):
        cell = Cell(cell.name, cell.arguments + arguments.extra)
        trouble = run_cell(cell, f"[{number}/{len(planned)}] {cell.name}", sweep["script"], arguments)
        if trouble:
            print(f"{cell.name} failed: {trouble}", flush=True)
            failed.append(f"{cell.name} ({trouble})")
    if failed:
        raise UserError(f"{len(failed)} of {len(planned)} cells failed: {', '.join(failed)}")


def requested(arguments: Namespace) -> dict[str, Any]:
    """The sweep of the file, with the flags that are given."""
    sweep = {"script": SCRIPTS[0], **(read_sweep(arguments.sweep) if arguments.sweep else {})}
    return sweep | {name: value for name in ("script", *AXES) if (value := getattr(arguments, name)) is not None}


def run_cell(cell: Cell, title: str, script: str, arguments: Namespace) -> str | None:
    """Run it unless it is finished; returns what is wrong, None where nothing is."""
    log_dir = arguments.log_root / cell.name
    begun_with = [script, *cell.arguments]
    if (log_dir / RESULTS).exists():
        print(f"{title}: finished", flush=True)
        same = _record(arguments.log_root).get(cell.name, begun_with) == begun_with
        return None if same else "finished with other arguments: remove its folder or give another --log_root"
    program = str(ROOT / "scripts" / f"{script}.py")
    command = [*arguments.launcher, program, *cell.arguments, "--log_dir", str(log_dir)]
    print(f"{title}: {shlex.join(command)}", flush=True)
    if arguments.dry_run:
        return None
    _note(arguments.log_root, cell.name, begun_with)
    try:
        status = subprocess.run(command).returncode
    except OSError as error:
        raise UserError(f"--launcher {shlex.join(arguments.launcher)} cannot be run: {error.strerror}") from None
    return None if status == 0 else f"status {status}"


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    """Before and after the first `--`."""
    place = words.index("--") if "--" in words else len(words)
    return words[:place], words[place + 1 :]


def _record(root: Path) -> dict[str, list[str]]:
    path = root / RECORD
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}): remove it, or give another --log_root") from None


def _note(root: Path, name: str, arguments: list[str]) -> None:
    record = _record(root) | {name: arguments}
    try:
        root.mkdir(parents=True, exist_ok=True)
        replace_json(root / RECORD, record)
    except OSError as error:
        raise UserError(f"--log_root {root} cannot be written: {error.strerror}") from None


if __name__ == "__main__":
    run_main(main, resumes=True)
