"""The cells of a sweep: every combination of models, tasks, lengths and methods, as arguments of one evaluation script.

A sweep is a JSON object, all of it optional:

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
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from utils.errors import UserError

AXES = {"models": "model", "tasks": "dataset", "lengths": "max_length", "methods": "method"}
"""The flag of a script that each of them sets."""
LENGTH_FLAGS = {"eval_infinite_ppl": "streaming_length"}
SCRIPTS = ("eval_downstream_tasks", "eval_generation", "eval_ppl_deepspeed", "eval_infinite_ppl")
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
    if "script" in sweep and sweep["script"] not in SCRIPTS:
        raise UserError(f"sweep {path}: script must be one of {', '.join(SCRIPTS)}, not {sweep['script']!r}")
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
    flags = AXES | {"lengths": LENGTH_FLAGS.get(sweep["script"], AXES["lengths"])}
    arguments |= {flags[axis]: value for axis, value in place.items()}
    name = "--".join(_short(axis, value) for axis, value in place.items()) or sweep["script"]
    return Cell(name, tuple(word for flag, value in arguments.items() for word in _words(flag, value)))


def _short(axis: str, value: Any) -> str:
    """A value as a part of a folder's name; of a model's path, its last part."""
    text = str(value).rstrip("/")
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
    arguments = value.get("arguments", {})
    if not isinstance(arguments, dict) or not all(_is_argument(one) for one in arguments.values()):
        raise UserError(f"{where}: arguments must be an object from flags, without dashes, to values")


def _is_argument(value: Any) -> bool:
    return all(isinstance(one, VALUES) for one in (value if isinstance(value, list) else [value]))
