"""Whether a trial is gone on with as it was begun: which arguments and facts must be as they were."""

from collections.abc import Iterator, Mapping
from typing import Any

from utils.trials.versions import environment_of

FREE_ARGUMENTS = frozenset(
    {
        "log_dir",
        "overwrite",
        "repair",
        "batch_size",
        "prefill_chunk",
        "no_compile",
        "no_captured_step",
        "no_shared_prefill",
        "save_steps",
        "save_seconds",
        "max_seconds",
        "token_cache",
        "method",
        "silent",
        "deepspeed_config",
        "device_map",
        "local_rank",
        "rank_timeout",
        "sequence_parallel",
        "fp16",
        "max_document_bytes",
        "strict_data",
    }
)
"""Arguments that may change when a trial goes on: how the work is spread and shown, not what is computed. A method
counts as the flags that it stands for."""
AS_BEFORE: Mapping[str, Any] = {
    "streams": 1,
    "text_field": "text",
    "truncation_side": "right",
    "dtype": "auto",
    "backend": "auto",
    "sink_positions": "text",
    "window_layers": "own",
}
"""The values of arguments and of settings of Λ-attention that do what was done before these were there. Nothing, false
and 0 do it of any; another value of one that a trial does not know, since it is older, is a change."""
LAMBDA_ATTENTION = "lambda_attention"
COMPILED = "compiled"
"""The setting of Λ-attention that --no_compile turns off, which may change."""
FIXED_FACTS = ("script", LAMBDA_ATTENTION, "model", "corpus")
CONFIG_DIGEST = "config_sha256"


def comparable(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of a config.json that must be as they were before.

    Another Transformers may write another configuration of the model.
    """
    facts = {fact: now[fact] for fact in FIXED_FACTS}
    old, new = (environment_of(config)["versions"].get("transformers") for config in (before, now))
    if old != new and isinstance(facts["model"], dict):
        facts["model"] = facts["model"] | {CONFIG_DIGEST: before["model"].get(CONFIG_DIGEST)}
    return facts


def differences(before: Mapping[str, Any], facts: Mapping[str, Any], arguments: Mapping[str, Any]) -> list[str]:
    """What differs from the config.json of before, in words."""
    old, new = before["arguments"], dict(arguments)
    changes = [
        f"--{name} was {old.get(name)!r} and is {new.get(name)!r} now"
        for name in sorted(old.keys() | new.keys())
        if name not in FREE_ARGUMENTS and not _same(name, old, new)
    ]
    return changes + [
        f"{fact} was {was!r} and is {now!r} now"
        for name, value in facts.items()
        for fact, was, now in _differing(name, before.get(name), value)
    ]


def _same(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether an argument is as it was; one that either side does not know counts as it was before it was there."""
    if name in old and name in new:
        return old[name] == new[name]
    value = old[name] if name in old else new[name]
    return not value or value == AS_BEFORE.get(name)


def _differing(name: str, old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    """Differences of two JSON values: (name, old, new), one level into objects."""
    if isinstance(old, dict) and isinstance(new, dict):
        settings = name == LAMBDA_ATTENTION
        for key in sorted((old.keys() | new.keys()) - ({COMPILED} if settings else set())):
            if not (_same(key, old, new) if settings else old.get(key) == new.get(key)):
                yield f"{name} {key}", old.get(key), new.get(key)
    elif old != new:
        yield name, old, new
