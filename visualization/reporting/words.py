"""Numbers, methods and arguments as a reader is told them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from utils.files import json_text

LARGE = 1e6
SCRIPTS = "scripts"


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


def settings_words(config: dict[str, Any]) -> str:
    """What the settings of a trial's method are."""
    arguments, attention = config["arguments"], config.get("lambda_attention")
    parts = ["full attention"] if attention is None else _attention_words(attention)
    if arguments.get("rope_scaling"):
        factor, target = arguments.get("rope_factor"), arguments.get("target_length")
        scaled = f"for {_text(target)} tokens" if factor is None and target else f"by {_text(factor)}"
        parts.append(f"RoPE scaled {scaled} ({arguments['rope_scaling']})")
    if arguments.get("method") == "truncate" or arguments.get("runtime_truncation"):
        kept = arguments.get("runtime_truncation") or arguments.get("max_length")
        parts.append(f"of the last {_text(kept)} tokens only")
    return ", ".join(parts)


def typed_words(config: dict[str, Any]) -> list[str]:
    """The words of a trial's command, its program called as it is typed: by its name, and scripts/ from where they lie.

    No words where config.json does not tell it.
    """
    words = [str(word) for word in config.get("command") or []]
    if words and Path(words[0]).name.startswith("python"):
        words[0] = "python"
    for place, word in enumerate(words):
        path = Path(word)
        if path.is_absolute() and path.parent.name == SCRIPTS and path.suffix == ".py":
            words[place] = f"{SCRIPTS}/{path.name}"
    return words


def _remapped_words(attention: dict[str, Any]) -> list[str]:
    parameters = {name: attention.get(name) for name in ("window", "group", "chunk", "factor", "log_scale")}
    return ["all tokens at other distances", *(f"{name} {_text(value)}" for name, value in parameters.items() if value)]


def _attention_words(attention: dict[str, Any]) -> list[str]:
    if "method" in attention:
        return _remapped_words(attention)
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
