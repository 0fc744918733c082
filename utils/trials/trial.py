"""A trial: the log dir that says what was run and holds what came out, whenever the run was stopped."""

import fcntl
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from utils.console import Console
from utils.errors import UserError
from utils.files import (
    TEMPORARY_SUFFIX,
    append_lines,
    json_text,
    read_arrays,
    replace_arrays,
    replace_file,
    replace_json,
    sync_file,
    writing_to,
)
from utils.trials.files import (
    ARRAYS,
    CHECKPOINT,
    CONFIG,
    DOCUMENT_ARRAYS,
    LOG,
    OUTCOMES,
    OWN_FILES,
    RESULTS,
    RUNNING_FILES,
    SAMPLES,
)
from utils.trials.versions import CONTINUED, Environment, changes, environment_of, environments

FREE_ARGUMENTS = frozenset(
    {
        "log_dir",
        "overwrite",
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
        "strict_data",
    }
)
"""Arguments that may change when a trial goes on: how the work is spread and shown, not what is computed. A method
counts as the flags that it stands for."""
FIXED_FACTS = ("script", "lambda_attention", "model", "corpus")
CONFIG_DIGEST = "config_sha256"


class Trial:
    """The files of one log dir. Only the first rank holds one. Every failure to write is a UserError."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.console = Console(silent=True)
        self._lock: IO[str] | None = None
        self._to_replace: Console | None = None  # with --overwrite, until `begin`: who logs into the new trial

    @classmethod
    def open(
        cls, log_dir: str, script: str, arguments: Mapping[str, Any], console: Console, overwrite: bool = False
    ) -> "Trial":
        """Open `log_dir` for a run with these arguments: new, to be gone on with, or finished.

        With `overwrite` the trial there counts as absent, and `begin` removes it: a run that
        fails before that costs nothing. Raises UserError where the folder cannot be written, holds a trial
        with other arguments or files of something else, or is in use by another run.
        """
        trial = cls(Path(log_dir))
        trial.console = console
        with writing_to(trial.folder):
            trial.folder.mkdir(parents=True, exist_ok=True)
            trial._take_lock()
        trial._refuse_strangers()
        if overwrite:
            trial._to_replace = console
            return trial
        if trial._has_nothing_of_its_own({"script": script}, arguments):
            trial._to_replace = console
            trial._say_replaced()
            return trial
        with writing_to(trial.folder):
            console.log_to(trial.folder / LOG)
        return trial

    @property
    def config(self) -> dict[str, Any] | None:
        """Content of config.json, None before `begin`."""
        return self._read_json(CONFIG)

    @property
    def results(self) -> dict[str, Any] | None:
        """Content of results.json, None where the trial is not finished."""
        return self._read_json(RESULTS)

    def begin(self, config: dict[str, Any]) -> None:
        """Write config.json; where the trial goes on, raise UserError if something else is being computed.

        Going on with other versions is said, and noted in config.json.
        """
        if self._to_replace is not None:
            with writing_to(self.folder):
                self._remove_files()
                self._to_replace.log_to(self.folder / LOG)
            self._to_replace = None
        if self.config is None:
            with writing_to(self.folder):
                replace_json(self.folder / CONFIG, config)
        elif self._has_nothing_of_its_own(self._comparable(config), config["arguments"]):
            with writing_to(self.folder):
                self._remove_files()
                replace_json(self.folder / CONFIG, config)
            self._say_replaced()
        else:
            self._note_versions(environment_of(config))

    def _comparable(self, config: dict[str, Any]) -> dict[str, Any]:
        """The facts that must be as they were. Another Transformers may write another configuration of the model."""
        facts = {fact: config[fact] for fact in FIXED_FACTS}
        before, now = (environment_of(one)["versions"].get("transformers") for one in (self.config, config))
        if before != now and isinstance(facts["model"], dict):
            facts["model"] = facts["model"] | {CONFIG_DIGEST: self.config["model"].get(CONFIG_DIGEST)}
        return facts

    def _note_versions(self, now: Environment) -> None:
        config = self.config
        changed = changes(environments(config)[-1], now)
        if changed:
            self.console.say(f"going on with {', '.join(changed)}")
            with writing_to(self.folder):
                replace_json(self.folder / CONFIG, config | {CONTINUED: [*config.get(CONTINUED, []), now]})

    def finish(self, results: dict[str, Any]) -> None:
        """Write results.json, with the versions that took part: the trial is finished."""
        with writing_to(self.folder):
            replace_json(self.folder / RESULTS, results | {"environments": environments(self.config or {})})

    def append_samples(self, samples: list[dict[str, Any]], sync: bool = True) -> None:
        """Append one line per document to samples.jsonl; without `sync` a power cut may lose them."""
        with writing_to(self.folder):
            append_lines(self.folder / SAMPLES, [json_text(sample) for sample in samples], sync)

    def sync_samples(self) -> None:
        """Have all lines of samples.jsonl on disk."""
        with writing_to(self.folder):
            sync_file(self.folder / SAMPLES)

    def samples(self) -> list[dict[str, Any]]:
        """The lines of samples.jsonl up to the first that is torn."""
        path = self.folder / SAMPLES
        samples = []
        for line in path.read_bytes().split(b"\n") if path.exists() else []:
            try:
                sample = json.loads(line)
            except ValueError:
                break
            samples.append(sample)
        return samples

    def replace_samples(self, samples: list[dict[str, Any]]) -> None:
        """Have samples.jsonl hold exactly these lines."""
        text = "".join(json_text(sample) + "\n" for sample in samples)
        with writing_to(self.folder):
            replace_file(self.folder / SAMPLES, lambda file: file.write(text.encode()))

    def arrays(self) -> dict[str, np.ndarray] | None:
        """Arrays of nll.npz, None where there is none yet. Raises UserError on a damaged file."""
        path = self.folder / ARRAYS
        if not path.exists():
            return None
        try:
            return read_arrays(path)
        except Exception as error:  # numpy and zipfile raise many kinds
            raise UserError(f"{path} is damaged ({error}): start afresh with --overwrite") from None

    def replace_arrays(self, arrays: dict[str, np.ndarray], name: str = ARRAYS) -> None:
        """Replace nll.npz, or another file of arrays."""
        with writing_to(self.folder):
            replace_arrays(self.folder / name, arrays)

    def _take_lock(self) -> None:
        """Keep a second run out of this folder for as long as this process lives."""
        self._lock = open(self.folder / LOG, "a", encoding="utf-8")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"--log_dir {self.folder} is in use by another run: wait for it or give another folder"
            ) from None
        except OSError:
            pass  # a file system without locks

    def _remove_files(self) -> None:
        for path in (path for pattern in RUNNING_FILES for path in self.folder.glob(pattern)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        for name in OWN_FILES:
            (self.folder / (name + TEMPORARY_SUFFIX)).unlink(missing_ok=True)
            if name == LOG:
                self._lock.truncate(0)  # unlinking it would give up the lock
            else:
                (self.folder / name).unlink(missing_ok=True)

    def _read_json(self, name: str) -> dict[str, Any] | None:
        path = self.folder / name
        if self._to_replace is not None:
            return None
        try:
            return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
        except (OSError, ValueError) as error:
            raise UserError(f"{path} cannot be read ({error}): start afresh with --overwrite") from None

    def _refuse_strangers(self) -> None:
        """Raise UserError where files with our names are no trial's: they must be neither read nor replaced."""
        held = [name for name in OUTCOMES if (self.folder / name).exists()]
        try:
            config = self._read_json(CONFIG)
        except UserError:
            return  # damaged: said by whoever needs it, and --overwrite may replace it
        if config is None and held:
            stranger = f"{held[0]} but no {CONFIG}"
        elif config is not None and not (isinstance(config, dict) and isinstance(config.get("arguments"), dict)):
            stranger = f"a {CONFIG} without arguments"
        else:
            return
        raise UserError(f"--log_dir {self.folder} holds {stranger}, so it is no trial's: give another folder")

    def _has_nothing_of_its_own(self, facts: dict[str, Any], arguments: Mapping[str, Any]) -> bool:
        """Whether the trial here is another one that never came to a number, so that it may be replaced.

        Raises UserError where it is another one and has some.
        """
        changes = self._changes(facts, arguments)
        if changes and self._has_numbers():
            raise UserError(
                f"--log_dir {self.folder} holds a trial with other arguments ({'; '.join(changes)}): give "
                "another --log_dir, or --overwrite to start afresh"
            )
        return bool(changes)

    def _say_replaced(self) -> None:
        self.console.say(f"--log_dir {self.folder} held a trial with other arguments that never came to a number")

    def _has_numbers(self) -> bool:
        """Whether there is anything that going on would go on from."""
        held = [self.folder / name for name in OUTCOMES]
        written = any(path.exists() and path.stat().st_size for path in held)
        return written or any(self.folder.glob(f"{CHECKPOINT}*")) or any(self.folder.glob(f"{DOCUMENT_ARRAYS}*"))

    def _changes(self, facts: dict[str, Any], arguments: Mapping[str, Any]) -> list[str]:
        """What is not as config.json has it, in words."""
        config = self.config
        if config is None:
            return []
        old, new = config["arguments"], dict(arguments)
        changes = [
            f"--{name} was {old.get(name)!r} and is {new.get(name)!r} now"
            for name in sorted(old.keys() | new.keys())
            if name not in FREE_ARGUMENTS and old.get(name) != new.get(name)
        ]
        return changes + [
            f"{fact} was {before!r} and is {now!r} now"
            for fact, value in facts.items()
            for fact, before, now in _differences(fact, config.get(fact), value)
        ]


def _differences(name: str, old: Any, new: Any) -> list[tuple[str, Any, Any]]:
    """Differences of two JSON values: (name, old, new), one level into objects."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
        return [(f"{name} {key}", old.get(key), new.get(key)) for key in keys]
    return [(name, old, new)] if old != new else []
