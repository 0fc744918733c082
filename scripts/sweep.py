"""Models x tasks x lengths x methods: one trial of an evaluation script per cell, each in a log dir of its own.

    python scripts/sweep.py configs/sweeps/passkey.json --log_root logs/passkey --dry-run
    python scripts/sweep.py --tasks passkey_retrieval ruler/vt --lengths 2048 4096 --methods vanilla lm_infinite \\
        --log_root logs/table -- --num_samples 20 --silent
    python scripts/combine_results.py logs/table/*--*

Flags count instead of what the file says, and what follows `--` goes to every cell, settings of methods only to those
whose --method has them. Before the first cell starts, every command is looked through for mistakes. Cells that are
finished are skipped, the others begun or gone on with; those that fail are named at the end.

The file holds a JSON object, all of it optional:

    {"script": "eval_downstream_tasks",
     "models": ["smollm2"], "tasks": ["passkey_retrieval", "ruler/vt"],
     "lengths": [2048, 4096, 8192], "methods": ["vanilla", "lm_infinite"],
     "arguments": {"num_samples": 20, "apply_chat_template": true},
     "where": [{"lengths": [8192], "arguments": {"num_samples": 5}}]}

`arguments` are the script's flags without dashes: true is a flag that takes no value, false and null leave it out, a
list is a flag of several values. What `where` says counts for the cells of the models, tasks, ... that it names, later
entries over earlier ones.
"""

import json
import os
import shlex
import subprocess
import sys
from argparse import Namespace, RawDescriptionHelpFormatter
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from scripts.harness.methods import unread_by
from scripts.harness.position_arguments import SCALING_ARGUMENTS
from utils.arguments import HarnessParser, whole_number
from utils.errors import UserError
from utils.files import replace_json
from utils.program import run_main
from utils.trials.experiments import EXPERIMENTS, SCORED
from utils.trials.files import RESULTS
from utils.trials.finished import read_log_dir
from utils.trials.methods import METHODS

RECORD = "sweep.json"
"""File in the root, with the arguments that each cell was last begun with."""
AXES = {"models": "model", "tasks": "dataset", "lengths": "max_length", "methods": "method"}
"""The flag that each of them sets; of tasks and lengths, where its experiment names no other."""
VALUES = (str, int, float, bool, type(None))
KEYS = ("script", *AXES, "arguments", "where")


@dataclass(frozen=True)
class Cell:
    """One run of the script. name: of its log dir. arguments: as words of a command line, without --log_dir."""

    name: str
    arguments: tuple[str, ...]


def read_sweep(path: Path) -> dict[str, Any]:
    """The sweep in a file, checked. Raises UserError naming the file and what is wrong in it."""
    try:
        sweep = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"sweep {path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"sweep {path} is not valid JSON: {error}") from None
    _check_object(sweep, KEYS, f"sweep {path}")
    if "script" in sweep and sweep["script"] not in SCORED:
        raise UserError(f"sweep {path}: script must be one of {', '.join(SCORED)}, not {sweep['script']!r}")
    rules = sweep.get("where", [])
    if not isinstance(rules, list):
        raise UserError(f"sweep {path}: where must be a list of objects")
    for rule in rules:
        _check_object(rule, (*AXES, "arguments"), f"sweep {path}: an entry of where")
    return sweep


def cells(sweep: Mapping[str, Any]) -> list[Cell]:
    """All of them, the first axis slowest. Raises UserError where two would share a log dir."""
    axes = {axis: sweep[axis] for axis in AXES if sweep.get(axis)}
    found = [_cell(sweep, dict(zip(axes, place))) for place in product(*axes.values())]
    for name, count in Counter(cell.name for cell in found).items():
        if count > 1:
            raise UserError(f"{count} cells of the sweep would share the log dir {name}: name each thing once")
    return found


def _cell(sweep: Mapping[str, Any], place: Mapping[str, Any]) -> Cell:
    """place: the cell's value on each axis."""
    arguments = dict(sweep.get("arguments", {}))
    for rule in sweep.get("where", []):
        if all(place.get(axis) in rule[axis] for axis in AXES if axis in rule):
            arguments |= rule.get("arguments", {})
    experiment = EXPERIMENTS[sweep["script"]]
    flags = AXES | {"tasks": experiment.texts, "lengths": experiment.length}
    arguments |= {flags[axis]: value for axis, value in place.items()}
    name = "--".join(_short(axis, value) for axis, value in place.items()) or sweep["script"]
    return Cell(name, tuple(word for flag, value in arguments.items() for word in _words(flag, value)))


def _short(axis: str, value: Any) -> str:
    """A value as a part of a folder's name; of a model's path, its last part."""
    text = str(value).rstrip("/")
    if text.rpartition("/")[2] in ("", ".", ".."):
        raise UserError(f"{axis} of the sweep: {value!r} names no folder of a cell: give a path that ends in a name")
    return (text.rpartition("/")[2] if axis == "models" else text).replace("/", "_")


def _words(flag: str, value: Any) -> list[str]:
    if value is None or value is False:
        return []
    if value is True:
        return [f"--{flag}"]
    return [f"--{flag}", *map(str, value if isinstance(value, list) else [value])]


def _check_object(value: Any, keys: Sequence[str], where: str) -> None:
    if not isinstance(value, dict):
        raise UserError(f"{where} must be a JSON object with some of {', '.join(keys)}")
    unknown = [key for key in value if key not in keys]
    if unknown:
        raise UserError(f"{where} has {unknown[0]!r}, which is none of {', '.join(keys)}")
    for axis in AXES:
        named = value.get(axis, [None])
        kind = int if axis == "lengths" else str
        if not isinstance(named, list) or not named or (axis in value and not all(type(one) is kind for one in named)):
            raise UserError(f"{where}: {axis} must be a list of {'whole numbers' if kind is int else 'names'}")
        for name in named:
            if isinstance(name, str) and not _is_text(name):
                raise UserError(f"{where}: {axis} has {name!r}, which is no text")
    arguments = value.get("arguments", {})
    if not isinstance(arguments, dict) or not all(_is_argument(one) for one in arguments.values()):
        raise UserError(f"{where}: arguments must be an object from flags, without dashes, to values")


def _is_text(value: str) -> bool:
    """Whether a file or a command line can have it; "\\ud800" is legal JSON."""
    try:
        os.fsencode(value)
    except UnicodeEncodeError:
        return False
    return True


def _is_argument(value: Any) -> bool:
    return all(
        isinstance(one, VALUES) and _is_text(str(one)) for one in (value if isinstance(value, list) else [value])
    )


def parse_arguments() -> Namespace:
    parser = HarnessParser(__doc__)
    parser.formatter_class = RawDescriptionHelpFormatter
    parser.add_argument("sweep", nargs="?", type=Path, metavar="FILE", help="a sweep, as JSON (default: the flags say)")
    parser.add_argument("--script", choices=SCORED, help=f"what every cell runs (default: {SCORED[0]})")
    parser.add_argument("--models", nargs="+", metavar="NAME", help="values of --model")
    parser.add_argument("--tasks", nargs="+", metavar="NAME", help="values of --dataset, or of lm-eval's --tasks")
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
    planned = [Cell(cell.name, cell.arguments + words_for(cell, arguments.extra)) for cell in cells(sweep)]
    check(planned, sweep["script"])
    failed = []
    for number, cell in enumerate(planned, start=1):
        trouble = run_cell(cell, f"[{number}/{len(planned)}] {cell.name}", sweep["script"], arguments)
        if trouble:
            print(f"{cell.name} failed: {trouble}", flush=True)
            failed.append(f"{cell.name} ({trouble})")
    if failed:
        raise UserError(f"{len(failed)} of {len(planned)} cells failed: {', '.join(failed)}")


def requested(arguments: Namespace) -> dict[str, Any]:
    """The sweep of the file, with the flags that are given."""
    sweep = {"script": SCORED[0], **(read_sweep(arguments.sweep) if arguments.sweep else {})}
    return sweep | {name: value for name in ("script", *AXES) if (value := getattr(arguments, name)) is not None}


def words_for(cell: Cell, extra: Sequence[str]) -> tuple[str, ...]:
    """What of `extra` goes to a cell: settings of methods only to those that have them."""
    if "--method" not in cell.arguments:
        return tuple(extra)
    method = cell.arguments[cell.arguments.index("--method") + 1]
    scaled = any(word.partition("=")[0] == "--rope_scaling" for word in extra)
    unread = unread_by(method) - (set(SCALING_ARGUMENTS) if scaled else set())
    kept, words = True, []
    for word in extra:
        if word.startswith("--"):
            kept = word[2:].partition("=")[0] not in unread
        words += [word] if kept else []
    return tuple(words)


def check(planned: Sequence[Cell], script: str) -> None:
    """Raise UserError where a cell's command has a mistake: the first, before hours of others."""
    for cell in planned:
        command = [sys.executable, str(ROOT / "scripts" / f"{script}.py"), *cell.arguments, "--check"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            said = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
            raise UserError(f"no cell was started: {cell.name}: {said[-1].removeprefix('error: ')}")


def run_cell(cell: Cell, title: str, script: str, arguments: Namespace) -> str | None:
    """Run it unless it is finished; returns what is wrong, None where nothing is."""
    log_dir = arguments.log_root / cell.name
    begun_with = [script, *cell.arguments]
    if (log_dir / RESULTS).exists():
        try:
            read_log_dir(log_dir, [script])
        except UserError as error:
            return str(error)
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
