"""Methods by name: `--method NAME` is the same as the flags that it stands for, on every evaluation script."""

from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from utils.arguments import LAMBDA_ARGUMENTS, LAMBDA_DEFAULTS, NO_CAP, HarnessParser
from utils.errors import UserError

LAST_TOKENS = "--local_branch"
"""As a flag's value: as many tokens as the window would hold."""


@dataclass(frozen=True)
class Method:
    """What a name stands for, as values of arguments.

    fixed: what makes it this method; another value contradicts it. defaults: what counts unless it is given.
    never: values that would make it another method.
    """

    fixed: Mapping[str, Any]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    never: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Script:
    """What is special about one evaluation script.

    truncation: the flags by which it reads the last tokens only; None where it cannot.
    refused: methods and arguments that make no sense there, with the reason.
    """

    truncation: Mapping[str, Any] | None
    refused: Mapping[str, str] = field(default_factory=dict)


_VANILLA = {"use_lambda_attention": False, "rope_scaling": None}
_LAMBDA = {"use_lambda_attention": True, "sink_positions": "text"}
_NO_TOP_K = {"top_k_attention": None}
_NO_SINKS = {"global_branch": 0}
_NO_LIMIT = {"limit_distance": NO_CAP}

METHODS = {
    "vanilla": Method(_VANILLA),
    "truncate": Method(_VANILLA),
    "window": Method(_LAMBDA | _NO_TOP_K | _NO_SINKS),
    "lambda_mask": Method(_LAMBDA | _NO_TOP_K | _NO_LIMIT, never=_NO_SINKS),
    "streaming_llm": Method(
        _LAMBDA | _NO_TOP_K | _NO_LIMIT | {"sink_positions": "cache"}, {"global_branch": 4}, never=_NO_SINKS
    ),
    "dynamic_ntk": Method({"use_lambda_attention": False, "rope_scaling": "dynamic"}),
    "lm_infinite": Method(_LAMBDA | _NO_TOP_K, never=_NO_SINKS | _NO_LIMIT),
    "lm_infinite_top_k": Method(_LAMBDA, {"top_k_attention": 5, "top_k_from_layer": 4}, never=_NO_SINKS | _NO_LIMIT),
}
"""4 first tokens are those of StreamingLLM's paper, the top 5 from layer 4 on those of LM-Infinite's own commands."""

_NO_TOP_K_HERE = dict.fromkeys(
    ("lm_infinite_top_k", "top_k_attention"),
    "only the last token of a forward takes the top k, and here every token is scored",
)
_DOCUMENTS = {"max_length": LAST_TOKENS, "truncation_side": "left"}

SCRIPTS = {
    "eval_ppl_deepspeed": Script(_DOCUMENTS, _NO_TOP_K_HERE),
    "diagnose": Script(
        _DOCUMENTS,
        dict.fromkeys(
            ("lm_infinite_top_k", "top_k_attention"),
            "only the last token of a forward takes the top k, and a diagnosis reads a text in one",
        ),
    ),
    "eval_infinite_ppl": Script(
        None,
        {
            **_NO_TOP_K_HERE,
            "truncate": "a stream has no last tokens, take window",
            "dynamic_ntk": "its frequencies would change along the stream, but not those of the keys in the cache",
        },
    ),
    "eval_generation": Script({"runtime_truncation": LAST_TOKENS}),
    "eval_downstream_tasks": Script({"runtime_truncation": LAST_TOKENS}),
}


def add_method_arguments(parser: HarnessParser, script: str) -> None:
    """--method on one of SCRIPTS; once parsed, the arguments are those that it stands for."""
    parser.add_argument_group("method").add_argument(
        "--method",
        choices=METHODS,
        help="a method by its name instead of its flags; others that are given count as well; truncate reads the last "
        "--local_branch tokens only (default: what the flags say)",
    )
    parser.checks.insert(0, lambda arguments: _apply(arguments, parser.given, SCRIPTS[script]))


def _apply(arguments: Namespace, given: set[str], script: Script) -> None:
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


def _expanded(arguments: Namespace, script: Script) -> tuple[dict[str, Any], set[str]]:
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
        values = dict.fromkeys(LAMBDA_ARGUMENTS) | values
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


def _refuse(script: Script, name: str, shown: str) -> None:
    if name in script.refused:
        raise UserError(f"{shown} is not for this script: {script.refused[name]}")


def _flag(name: str, value: Any) -> str:
    """As on the command line."""
    if value is None or value is False:
        return f"no --{name}"
    return f"--{name}" if value is True else f"--{name} {value}"
