"""A trial: the log dir that says what was run and holds what came out, whenever the run was stopped."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from utils.console import Console
from utils.errors import UserError
from utils.files import (
    TEMPORARY_SUFFIX,
    append_lines,
    json_text,
    make_log_dir,
    read_arrays,
    replace_arrays,
    replace_file,
    replace_json,
    sync_file,
    writing_to,
)
from utils.trials.changes import comparable, differences
from utils.trials.evidence import damages, digests, refuse_damage
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
from utils.trials.lines import damage_of, find_lines, sound_values
from utils.trials.lock import FolderLock
from utils.trials.seals import ADVICE, COMPUTED_FROM, SEAL, Seals
from utils.trials.versions import CONTINUED, Environment, changes, environment_of, environments


class Trial:
    """The files of one log dir. Only the first rank holds one. Every failure to write is a UserError."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.console = Console(silent=True)
        self._noted: dict[str, Any] = {}  # what config.json is known to have
        self._lock: FolderLock | None = None
        self._to_replace: Console | None = None  # with --overwrite, until `begin`: who logs into the new trial
        self.repair = False
        self._lines: int | None = None  # of samples.jsonl, once they were read or written
        self._seals: Seals | None = None

    @classmethod
    def open(
        cls,
        log_dir: str,
        script: str,
        arguments: Mapping[str, Any],
        console: Console,
        overwrite: bool = False,
        repair: bool = False,
    ) -> "Trial":
        """Open `log_dir` for a run with these arguments: new, to be gone on with, or finished.

        With `overwrite` the trial there counts as absent, and `begin` removes it: a run that
        fails before that costs nothing. With `repair` what is damaged is dropped, and said. Raises
        UserError where the folder cannot be written, holds a trial with other arguments or files of
        something else, or is in use by another run.
        """
        trial = cls(Path(log_dir))
        trial.console, trial.repair = console, repair
        make_log_dir(trial.folder)
        with writing_to(trial.folder):
            trial._lock = FolderLock(trial.folder, console)
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
        config = self._read_json(CONFIG)
        if isinstance(config, dict) and SEAL in config and Seals.of(config).seal(config) != config:
            raise UserError(f"{self.folder / CONFIG} is not as it was written: start afresh with --overwrite")
        return config

    @property
    def seals(self) -> Seals:
        """The checksums of its files."""
        if self._seals is None:
            self._seals = Seals.of(self.config)
        return self._seals

    @property
    def results(self) -> dict[str, Any] | None:
        """Content of results.json, None where the trial is not finished.

        Raises UserError where it, or what it was computed from, is damaged; to be repaired, it is dropped instead.
        """
        if self.repair:
            self._drop_damaged()
            return self._read_json(RESULTS)  # whole, if it is left: large files are not read twice
        results = self._read_json(RESULTS)
        if results is not None:
            refuse_damage(self.folder, results, self.seals)
        return results

    def _drop_damaged(self) -> None:
        """Remove results.json if it or what it was computed from is damaged, and say so."""
        try:
            results = self._read_json(RESULTS)
        except UserError as error:
            found = {RESULTS: str(error)}
        else:
            found = {} if results is None else damages(self.folder, results, self.seals)
        if not found:
            return
        self.console.say(f"{'; '.join(found.values())}: dropped, to be computed again")
        with writing_to(self.folder):
            for name in {RESULTS, *found} - {SAMPLES}:  # whose whole lines remain
                (self.folder / name).unlink(missing_ok=True)

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
            self._write_config(config, sealed=True)
        elif self._has_nothing_of_its_own(comparable(self.config, config), config["arguments"]):
            with writing_to(self.folder):
                self._remove_files()
            self._write_config(config, sealed=True)
            self._say_replaced()
        else:
            self._note_versions(environment_of(config))

    def _note_versions(self, now: Environment) -> None:
        config = self.config
        changed = changes(environments(config)[-1], now)
        if changed:
            self.console.say(f"going on with {', '.join(changed)}")
            self._write_config(config | {CONTINUED: [*config.get(CONTINUED, []), now]}, self.seals.required)

    def note(self, name: str, value: Any) -> None:
        """Keep something that the run has found out in config.json, which is left as it is where it has that."""
        if self._noted.get(name) == value:
            return
        self._noted[name] = value
        if self.config.get(name) != value:
            self._write_config(self.config | {name: value}, self.seals.required)

    def _write_config(self, config: dict[str, Any], sealed: bool) -> None:
        with writing_to(self.folder):
            replace_json(self.folder / CONFIG, Seals.of(config).seal(config) if sealed else config)
        self._seals = None

    def finish(self, results: dict[str, Any]) -> None:
        """Write results.json, with the versions that took part: the trial is finished."""
        took_part = {"environments": environments(self.config or {})}
        with writing_to(self.folder):
            sealed = self.seals.seal(results | took_part | {COMPUTED_FROM: digests(self.folder)})
            replace_json(self.folder / RESULTS, sealed)

    def append_samples(self, samples: list[dict[str, Any]], sync: bool = True) -> None:
        """Append one line per document to samples.jsonl; without `sync` a power cut may lose them."""
        if self._lines is None:
            self.samples()
        with writing_to(self.folder):
            append_lines(self.folder / SAMPLES, self._sealed_lines(samples, self._lines + 1), sync)
        self._lines += len(samples)

    def _sealed_lines(self, samples: list[dict[str, Any]], first: int) -> list[str]:
        """As text, for the lines from number `first` on."""
        return [self.seals.seal_line(json_text(sample), place) for place, sample in enumerate(samples, start=first)]

    def sync_samples(self) -> None:
        """Have all lines of samples.jsonl on disk."""
        with writing_to(self.folder):
            sync_file(self.folder / SAMPLES)

    def samples(self) -> list[dict[str, Any]]:
        """The lines of samples.jsonl, without their checksums, up to one that a kill has left half.

        Raises UserError that names those that are damaged; to be repaired, they are said and left out.
        """
        path = self.folder / SAMPLES
        found = find_lines(path, self.seals)
        damage = damage_of(path, found)
        if damage is not None and not self.repair:
            raise UserError(f"{damage}: {ADVICE}")
        if damage is not None:
            self.console.say(f"{damage}: dropped, to be computed again")
        self._lines = len(found)
        return sound_values(found)

    def replace_samples(self, samples: list[dict[str, Any]]) -> None:
        """Have samples.jsonl hold exactly these lines; those of a trial without checksums get theirs."""
        text = "".join(line + "\n" for line in self._sealed_lines(samples, 1))
        with writing_to(self.folder):
            replace_file(self.folder / SAMPLES, lambda file: file.write(text.encode()))
        self._lines = len(samples)
        config = self.config
        if config is not None and not self.seals.required:
            self.console.say(f"{self.folder} was begun by a version without checksums: what is there is taken as it is")
            self._write_config(config, sealed=True)

    def arrays(self) -> dict[str, np.ndarray] | None:
        """Arrays of nll.npz, None where there is none yet. Raises UserError on a damaged file."""
        path = self.folder / ARRAYS
        if not path.exists():
            return None
        try:
            return read_arrays(path)
        except Exception as error:  # numpy and zipfile raise many kinds
            raise UserError(f"{path} is damaged ({error}): {ADVICE}") from None

    def replace_arrays(self, arrays: dict[str, np.ndarray], name: str = ARRAYS) -> None:
        """Replace nll.npz, or another file of arrays."""
        with writing_to(self.folder):
            replace_arrays(self.folder / name, arrays)

    def _remove_files(self) -> None:
        for path in (path for pattern in RUNNING_FILES for path in self.folder.glob(pattern)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        for name in OWN_FILES:
            (self.folder / (name + TEMPORARY_SUFFIX)).unlink(missing_ok=True)
            if name == LOG:
                self._lock.file.truncate(0)  # unlinking it would give up the lock
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
        changed = [] if self.config is None else differences(self.config, facts, arguments)
        if changed and self._has_numbers():
            raise UserError(
                f"--log_dir {self.folder} holds a trial with other arguments ({'; '.join(changed)}): give "
                "another --log_dir, or --overwrite to start afresh"
            )
        return bool(changed)

    def _say_replaced(self) -> None:
        self.console.say(f"--log_dir {self.folder} held a trial with other arguments that never came to a number")

    def _has_numbers(self) -> bool:
        """Whether there is anything that going on would go on from."""
        held = [self.folder / name for name in OUTCOMES]
        written = any(path.exists() and path.stat().st_size for path in held)
        return written or any(self.folder.glob(f"{CHECKPOINT}*")) or any(self.folder.glob(f"{DOCUMENT_ARRAYS}*"))
