"""Numbers, methods and arguments as a reader is told them."""

from collections.abc import Callable
from typing import Any

from utils.files import json_text
from utils.trials.methods import method_name

LARGE = 1e6


def whole(value: float) -> str:
    """1234 as 1,234."""
    return f"{value:,.0f}"


def fixed(digits: int) -> Callable[[float], str]:
    """Numbers with so many digits after the point."""
    return lambda value: f"{value:,.{digits}f}"


def percent(value: float) -> str:
    """A share of 1."""
    return f"{value:.1%}"


def large(value: float) -> str:
    """A number of any size, to at least three digits."""
    if abs(value) >= LARGE:
        return f"{value:.3e}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:,.2f}"


def method_words(config: dict[str, Any]) -> str:
    """A trial's method: its name, and what its settings are."""
    arguments, attention = config["arguments"], config.get("lambda_attention")
    parts = ["full attention"] if attention is None else _attention_words(attention)
    if arguments.get("rope_scaling"):
        parts.append(f"RoPE scaled by {_text(arguments.get('rope_factor'))} ({arguments['rope_scaling']})")
    if arguments.get("method") == "truncate" or arguments.get("runtime_truncation"):
        kept = arguments.get("runtime_truncation") or arguments.get("max_length")
        parts.append(f"of the last {_text(kept)} tokens only")
    return f"{method_name(config['script'], arguments)}: {', '.join(parts)}"


def _attention_words(attention: dict[str, Any]) -> list[str]:
    limit, top_k, offset = (attention.get(name) for name in ("limit_distance", "top_k", "triangle_offset"))
    parts = [
        f"the nearest {_text(attention.get('local_branch'))} tokens",
        f"the first {_text(attention.get('global_branch'))}" if attention.get("global_branch") else "no first tokens",
    ]
    if attention.get("sink_positions") == "cache":
        parts.append("positions counted inside the cache")
    else:
        parts.append("distances not capped" if limit is None else f"distances up to {_text(limit)}")
    if isinstance(top_k, dict):
        parts.append(f"the best {_text(top_k.get('k'))} in between from layer {_text(top_k.get('from_layer'))} on")
    if offset:
        parts.append(f"all in between with offset {_text(offset)}")
    return parts


def argument_text(value: Any) -> str:
    """The value of an argument."""
    if value is None:
        return "not given"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else json_text(value)


def _text(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int | float) else str(value)
