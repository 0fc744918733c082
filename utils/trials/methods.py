"""Methods by name, as values of arguments, and the name that a trial's arguments have."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from utils.trials.experiments import EXPERIMENTS, LAST_TOKENS

NO_CAP = "none"
"""Value of --limit_distance: distances are not capped."""


@dataclass(frozen=True)
class Method:
    """A method, as the values of arguments that its name stands for.

    fixed: what makes it this method; another value contradicts it. defaults: what counts unless it is given.
    never: values that would make it another method.
    """

    fixed: Mapping[str, Any]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    never: Mapping[str, Any] = field(default_factory=dict)


_VANILLA = {"use_lambda_attention": False, "rope_scaling": None, "remap_positions": None}
_LAMBDA = {"use_lambda_attention": True, "remap_positions": None, "sink_positions": "text"}
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
    "dynamic_ntk": Method(_VANILLA | {"rope_scaling": "dynamic"}),
    "pi": Method(_VANILLA | {"rope_scaling": "linear"}),
    "ntk": Method(_VANILLA | {"rope_scaling": "ntk"}),
    "yarn": Method(_VANILLA | {"rope_scaling": "yarn"}),
    "self_extend": Method(_VANILLA | {"remap_positions": "self_extend"}),
    "dca": Method(_VANILLA | {"remap_positions": "dca"}),
    "rerope": Method(_VANILLA | {"remap_positions": "rerope"}),
    "leaky_rerope": Method(_VANILLA | {"remap_positions": "leaky_rerope"}),
    "lm_infinite": Method(_LAMBDA | _NO_TOP_K, never=_NO_SINKS | _NO_LIMIT),
    "lm_infinite_top_k": Method(_LAMBDA, {"top_k_attention": 5, "top_k_from_layer": 4}, never=_NO_SINKS | _NO_LIMIT),
}
"""4 first tokens are those of StreamingLLM's paper, the top 5 from layer 4 on those of LM-Infinite's own commands."""


def method_name(script: str, arguments: Mapping[str, Any]) -> str:
    """The trial's --method, or for one without, the first whose flags it has; "other" where there is none.

    An argument that the trial does not know is younger than the trial, and counts as not given.
    """
    if arguments.get("method"):
        return arguments["method"]
    for name, method in METHODS.items():
        if all(arguments.get(flag, value) == value for flag, value in method.fixed.items()) and not any(
            flag in arguments and arguments[flag] == value for flag, value in method.never.items()
        ):
            return "truncate" if name == "vanilla" and _reads_last_tokens(script, arguments) else name
    return "other"


def _reads_last_tokens(script: str, arguments: Mapping[str, Any]) -> bool:
    flags = EXPERIMENTS[script].truncation
    return flags is not None and all(
        arguments.get(flag) is not None if value == LAST_TOKENS else arguments.get(flag) == value
        for flag, value in flags.items()
    )
