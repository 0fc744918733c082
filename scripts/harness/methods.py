"""The flag --method NAME, the same as the flags that it stands for, on every evaluation script."""

from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from models.attention.settings import REMAPPINGS
from scripts.harness.model_arguments import LAMBDA_ARGUMENTS, LAMBDA_DEFAULTS, OF_REMAPPINGS
from scripts.harness.position_arguments import DYNAMIC, REMAP_ARGUMENTS, SCALING_ARGUMENTS, STATIC
from utils.arguments import HarnessParser
from utils.errors import UserError
from utils.trials.experiments import EXPERIMENTS, Experiment
from utils.trials.methods import LAST_TOKENS, METHODS


def add_method_arguments(parser: HarnessParser, script: str) -> None:
    """--method on the command of one of EXPERIMENTS; once parsed, the arguments are those that it stands for."""
    parser.add_argument_group("method").add_argument(
        "--method",
        choices=METHODS,
        help="a method by its name instead of its flags; others that are given count as well; truncate reads the last "
        "--local_branch tokens only (default: what the flags say)",
    )
    parser.checks.insert(0, lambda arguments: _apply(arguments, parser.given, EXPERIMENTS[script]))


def _apply(arguments: Namespace, given: set[str], script: Experiment) -> None:
    """Have the arguments be those that the method stands for; `given` are the names of those on the command line."""
    if arguments.method is not None:
        _refuse(script, arguments.method, f"--method {arguments.method}")
        values, used = _expanded(arguments, script)
        _check_contradictions(arguments, given - used, values)
        for name, value in (METHODS[arguments.method].defaults | values).items():
            if name in values or name not in given:
                setattr(arguments, name, value)
    if arguments.top_k_attention is not None:
        _refuse(script, "top_k_attention", f"--top_k_attention {arguments.top_k_attention}")


def _expanded(arguments: Namespace, script: Experiment) -> tuple[dict[str, Any], set[str]]:
    """The values that the method fixes on this script, and the arguments that went into them."""
    values = dict(METHODS[arguments.method].fixed)
    if arguments.method != "truncate":
        return values, set()
    length = LAMBDA_DEFAULTS["local_branch"] if arguments.local_branch is None else arguments.local_branch
    if length < 2:
        raise UserError(f"--local_branch {length} is too short for --method truncate: give at least 2 tokens")
    cut = {name: length if value == LAST_TOKENS else value for name, value in script.truncation.items()}
    return values | cut | {"local_branch": None}, {"local_branch"}


def _check_contradictions(arguments: Namespace, given: set[str], values: Mapping[str, Any]) -> None:
    """Raise UserError where a given argument says something else than the method."""
    if not values["use_lambda_attention"]:
        values = dict.fromkeys(_meaningless(values)) | values
    for name in sorted(given & values.keys()):
        if getattr(arguments, name) != values[name]:
            raise UserError(
                f"{_flag(name, getattr(arguments, name))} contradicts --method {arguments.method}, which stands for "
                f"{_flag(name, values[name])}"
            )
    never = METHODS[arguments.method].never
    for name in sorted(given & never.keys()):
        if getattr(arguments, name) == never[name]:
            raise UserError(
                f"{_flag(name, never[name])} contradicts --method {arguments.method}: with it, it is another method"
            )


def unread_by(method: str) -> set[str]:
    """The flags of other methods that mean nothing to this one, by their names."""
    fixed = METHODS[method].fixed
    scaling, remapping = fixed.get("rope_scaling"), fixed["remap_positions"]
    unread = set(REMAP_ARGUMENTS) - {f"remap_{name}" for name in REMAPPINGS.get(remapping, ())}
    if not fixed["use_lambda_attention"]:
        unread |= _meaningless(fixed) - ({"local_branch"} if method == "truncate" else set())
    if scaling not in STATIC:
        unread |= {"target_length"} if scaling == DYNAMIC else set(SCALING_ARGUMENTS)
    return unread


def _meaningless(fixed: Mapping[str, Any]) -> set[str]:
    """The flags of Λ-attention that a method without it, which fixes these values, cannot honour."""
    return set(LAMBDA_ARGUMENTS) - (OF_REMAPPINGS if fixed["remap_positions"] else set())


def _refuse(script: Experiment, name: str, shown: str) -> None:
    if name in script.refused:
        raise UserError(f"{shown} is not for this script: {script.refused[name]}")


def _flag(name: str, value: Any) -> str:
    """As on the command line."""
    if value is None or value is False:
        return f"no --{name}"
    return f"--{name}" if value is True else f"--{name} {value}"
