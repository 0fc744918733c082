"""Checksums of what a trial writes, so that damage which still parses is noticed and named.

A line of samples.jsonl ends in `"checksum": "PLACE:DIGEST"`: its number in the file from 1, and the first 16 hex digits
of the SHA-256 of the trial's key, that number and the bytes before `, "checksum"`. config.json and results.json have a
`sha256` over the key and all else they hold; results.json names under `computed_from` the SHA-256 of the files beside
it. The key is drawn from the script, its arguments and the time it was begun, so another trial's files do not fit.

A trial begun by a version that wrote no checksums has none in its config.json, and none is then asked of its files.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from utils.errors import UserError

CHECKSUM, SEAL, COMPUTED_FROM = "checksum", "sha256", "computed_from"
KEY_FACTS = ("script", "arguments", "started")
ADVICE = "nothing is computed from it; --repair drops and recomputes what is damaged, --overwrite starts afresh"
_LINE = re.compile(rb'(\{.*), "checksum": "(\d{1,18}):([0-9a-f]{16})"\}')
Json = dict[str, Any]


@dataclass(frozen=True)
class Seals:
    """The checksums of one trial. required: whether its files must have theirs."""

    key: str = ""
    required: bool = False

    @classmethod
    def of(cls, config: Any) -> "Seals":
        """Those of the trial with this config.json; of none yet where it is None."""
        if not isinstance(config, dict):
            return cls()
        facts = json.dumps({name: config.get(name) for name in KEY_FACTS}, sort_keys=True)
        return cls(hashlib.sha256(facts.encode()).hexdigest(), SEAL in config)

    def seal(self, value: Mapping[str, Any]) -> Json:
        """The JSON object with its checksum, in place of any it had."""
        plain = {name: part for name, part in value.items() if name != SEAL}
        return plain | {SEAL: self._digest(json.dumps(plain, sort_keys=True).encode())}

    def check(self, value: Json, path: Path) -> None:
        """Raise UserError where the object that was read from `path` is not as it was written."""
        if SEAL not in value and not self.required:
            return
        if self.seal(value)[SEAL] != value.get(SEAL):
            raise UserError(f"{path} is not as it was written: {ADVICE}")

    def seal_line(self, text: str, place: int) -> str:
        """The text of a JSON object, for the line of this number."""
        begin = text.removesuffix("}")
        return f'{begin}, "{CHECKSUM}": "{place}:{self._line_digest(begin.encode(), place)}"}}'

    def open_line(self, line: bytes) -> tuple[int | None, str | None]:
        """(the number that a line was written for, None) or (None, why it cannot be trusted).

        (None, None) of one without a checksum where none is required.
        """
        match = _LINE.fullmatch(line)
        if match is None:
            return None, "has lost its checksum" if self.required else None
        place = int(match[2])
        if self._line_digest(match[1], place) != match[3].decode():
            return None, "is not as it was written"
        return place, None

    def _line_digest(self, begin: bytes, place: int) -> str:
        return self._digest(b"%d " % place + begin)[:16]

    def _digest(self, content: bytes) -> str:
        return hashlib.sha256(self.key.encode() + b" " + content).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file. Raises OSError."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
