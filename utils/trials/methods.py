"""Methods by name, as values of arguments: what a name stands for, and which name a trial's arguments have."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

NO_CAP = "none"
"""As --limit_distance: distances are not capped."""
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
    flags = SCRIPTS[script].truncation
    return flags is not None and all(
        arguments.get(flag) is not None if value == LAST_TOKENS else arguments.get(flag) == value
        for flag, value in flags.items()
    )
