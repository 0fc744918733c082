"""Versions that computed a trial: those that it began with, and those that it went on with."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

WATCHED = ("torch", "transformers", "tokenizers", "lm-eval")
"""Packages of which another version may change a number."""
CONTINUED = "continued"
"""Key of config.json: a list, in their order, of environments other than before with which a trial went on."""

Environment = dict[str, Any]
"""`versions` by package, and `git_commit` or None: as config.json has them."""


def environment_of(config: Mapping[str, Any]) -> Environment:
    """The environment that a trial began with; what config.json does not tell is missing."""
    versions = config.get("versions")
    return {"versions": versions if isinstance(versions, dict) else {}, "git_commit": config.get("git_commit")}


def environments(config: Mapping[str, Any]) -> list[Environment]:
    """All that took part in a trial, in the order in which they did."""
    continued = config.get(CONTINUED)
    return [environment_of(config), *map(environment_of, continued if isinstance(continued, list) else ())]


def changes(before: Environment, now: Environment) -> list[str]:
    """Versions and commit that are others, as "transformers 5.24.0 (5.23.0 before)"; what is not known is no change."""
    old, new = _facts(before), _facts(now)
    return [f"{name} {new[name]} ({old[name]} before)" for name in new if old.get(name, new[name]) != new[name]]


def differ(trials: Iterable[Sequence[Environment]]) -> bool:
    """Whether anything that is known of them is not the same throughout."""
    return any(len(values) > 1 for values in _values([one for trial in trials for one in trial]).values())


def describe(trial: Sequence[Environment]) -> str:
    """A trial's versions: "torch 2.13.0, transformers 5.23.0 then 5.24.0, tokenizers 0.23.3, commit 1a2b3c4d"."""
    return ", ".join(f"{name} {' then '.join(values)}" for name, values in _values(trial).items())


def _values(trial: Sequence[Environment]) -> dict[str, list[str]]:
    """The different values of each fact, in their order."""
    values: dict[str, list[str]] = {}
    for environment in trial:
        for name, value in _facts(environment).items():
            if value not in values.setdefault(name, []):
                values[name].append(value)
    return values


def _facts(environment: Environment) -> dict[str, str]:
    """Versions of the watched packages and commit of this code, as far as known, in this order."""
    versions, commit = environment["versions"], environment["git_commit"]
    facts = {name: str(versions[name]) for name in WATCHED if versions.get(name)}
    return facts | ({"commit": str(commit)[:8]} if commit else {})
