"""The shards of one trial that was run as several jobs, each over its own range of documents."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from utils.errors import UserError
from utils.trials.changes import FIXED_FACTS, FREE_ARGUMENTS
from utils.trials.examples import ExampleTrial
from utils.trials.samples import Sample

SHARD_ARGUMENTS = frozenset({"start_data_from", "max_data_num"})
"""Arguments that say which documents a job takes."""
SHARED_FACTS = tuple(fact for fact in FIXED_FACTS if fact != "corpus")


@dataclass(frozen=True)
class JoinedTrial:
    """One trial from its shards, in the order of their documents; most trials are of one shard."""

    shards: tuple[ExampleTrial, ...]

    @property
    def first(self) -> ExampleTrial:
        """The shard that begins the trial; its arguments are the trial's, but for the number of documents."""
        return self.shards[0]

    @property
    def samples(self) -> list[Sample]:
        """The lines of all shards, in the order of documents."""
        return [sample for shard in self.shards for sample in shard.samples]


def join_shards(trials: Sequence[ExampleTrial]) -> list[JoinedTrial]:
    """Join trials that differ in nothing but their documents, each where its first shard stands.

    Raises UserError where two of them have a document in common, or there is none for documents in between.
    """
    groups: dict[str, list[ExampleTrial]] = {}
    for place, trial in enumerate(trials):
        own = None if trial.experiment.shards else place
        groups.setdefault(json.dumps([own, _identity(trial)], sort_keys=True), []).append(trial)
    return [join(group) for group in groups.values()]


def join(shards: Sequence[ExampleTrial]) -> JoinedTrial:
    """Join shards of the same arguments; raises UserError where they overlap or leave a gap."""
    ordered = sorted(shards, key=lambda shard: (shard.indices.start, shard.indices.stop))
    for one, other in pairwise(ordered):
        end, start = one.indices.stop, other.indices.start
        if start < end:
            raise UserError(
                f"document {start} is in both {one.log_dir} and {other.log_dir}: give each shard of a trial once, or "
                "--no_join to have a row for each log dir"
            )
        if start > end:
            missing = f"document {end} is" if start == end + 1 else f"documents {end} to {start - 1} are"
            raise UserError(
                f"{missing} in none of the log dirs, between {one.log_dir} and {other.log_dir}: give all shards of a "
                "trial, or --no_join to have a row for each log dir"
            )
    return JoinedTrial(tuple(ordered))


def refuse_different(trials: Sequence[ExampleTrial]) -> None:
    """Raise UserError that names what differs between trials that should be shards of one."""
    first = trials[0]
    for other in trials[1:]:
        one, two = _identity(first), _identity(other)
        differing = [name for name in sorted(one.keys() | two.keys()) if one.get(name) != two.get(name)]
        if differing:
            shown = "; ".join(f"{name} is {_show(one.get(name))} and {_show(two.get(name))}" for name in differing)
            raise UserError(
                f"{first.log_dir} and {other.log_dir} are not shards of one trial ({shown}): give log dirs that differ "
                "in --start_data_from and --max_data_num only"
            )


def _identity(trial: ExampleTrial) -> dict[str, Any]:
    """All that shards of one trial have in common, by the name that a message gives it."""
    arguments = {
        f"--{name}": value
        for name, value in trial.arguments.items()
        if name not in FREE_ARGUMENTS and name not in SHARD_ARGUMENTS
    }
    facts = {"corpus": trial.config["corpus"]["name"]}
    for fact in SHARED_FACTS:
        value = trial.config.get(fact)
        facts |= {f"{fact} {key}": part for key, part in value.items()} if isinstance(value, dict) else {fact: value}
    return arguments | facts


def _show(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
