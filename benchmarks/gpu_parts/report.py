"""What the parts found, in one JSON file that is rewritten, whole or not at all, before and after each case.

A case is found there again by the next call, unless the code, the card or torch is another one since.
"""

import hashlib
import json
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks.gpu_parts.case import FAILED, MEASURED, NOT_REACHED, REFUSED, RUNNING, Case, Found, Part
from benchmarks.gpu_parts.sizes import FULL, Plan
from benchmarks.measuring.arguments import OUT
from benchmarks.measuring.machine import as_file_name, describe_machine
from utils.errors import UserError
from utils.files import replace_json
from utils.utils import git_commit, package_versions

ROOT = Path(__file__).resolve().parents[2]
MEASURED_CODE = ("models", "benchmarks")
"""Folders whose sources decide what is measured: with other ones nothing of a report counts."""
TRIES = 2
"""Times that a case is begun at most: one during which the process ended is tried once more."""
OVER = (MEASURED, FAILED, REFUSED)


def identity(plan: Plan) -> Found:
    """What has to be the same for a case not to be measured again."""
    return {
        "device": describe_machine(plan.device)["device"],
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "sizes": "full" if plan.sizes == FULL else "tiny",
        "sources": hash_of_sources(),
    }


def hash_of_sources() -> str:
    """SHA-256 of the Python files in MEASURED_CODE: a commit of results is no other code, and a copy has no git."""
    digest = hashlib.sha256()
    for path in sorted(path for folder in MEASURED_CODE for path in (ROOT / folder).rglob("*.py")):
        digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def default_path(plan: Plan) -> Path:
    """logs/benchmarks/gpu_CARD.json, in which CARD is the device's name as a file is called."""
    name = identity(plan)["device"] if plan.device == "cuda" else plan.device
    return OUT / f"gpu_{as_file_name(name)}.json"


class Report:
    """The cases that are over or under way, by part. replaced: where another identity's report was put, if there was.

    Raises UserError for a file that is there and is no report.
    """

    def __init__(self, path: Path, plan: Plan, again: tuple[str, ...] = ()) -> None:
        """again: names of parts whose cases are measured anew."""
        self.path, self.replaced = path, None
        self.content = self._read(identity(plan))
        self.content["machine"] = {
            **describe_machine(plan.device),
            **plan.accelerator.describe(),
            "system": platform.platform(),
            "packages": package_versions(),
            "commit": git_commit(),
        }
        for name in again:
            self.parts.pop(name, None)

    @property
    def parts(self) -> dict[str, Found]:
        return self.content["parts"]

    def _read(self, wanted: Found) -> Found:
        empty: Found = {"title": "Everything measured on one device", "identity": wanted, "machine": {}, "parts": {}}
        if not self.path.exists():
            return empty
        try:
            content = json.loads(self.path.read_text())
            found = content["identity"]
            content["parts"].items()
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"--out {self.path} is there and holds no report of gpu.py ({error}): name another"
            ) from None
        if found == wanted:
            return content
        self.replaced = self.path.with_stem(f"{self.path.stem}_{found.get('sources', 'older')}")
        self.path.rename(self.replaced)
        return empty

    def cases(self, part: str) -> dict[str, Found]:
        """The cases of a part by their names; none where it has not begun."""
        return self.parts.get(part, {}).get("cases", {})

    def every_case(self) -> Iterator[tuple[str, str, Found]]:
        """(part, case, what it found)."""
        for part in self.parts:
            for name, found in self.cases(part).items():
                yield part, name, found

    def is_over(self, part: Part, case: Case) -> bool:
        """Whether a case needs no more measuring. One that was twice under way when the process ended has failed."""
        found = self.cases(part.name).get(case.name, {})
        if found.get("state") == RUNNING and found["tries"] >= TRIES:
            self.put(part, case, {"state": FAILED, "why": f"the process ended {TRIES} times while it was measured"})
            return True
        return found.get("state") in OVER

    def begin(self, part: Part, case: Case) -> None:
        """Note that it is under way, for whoever finds this when the process has ended."""
        before = self.cases(part.name).get(case.name, {})
        tries = before["tries"] if before.get("state") == RUNNING else 0
        self.put(part, case, {"state": RUNNING, "tries": tries + 1})

    def not_reached(self, part: Part, case: Case, left: float) -> None:
        why = f"it takes about {case.seconds:.0f} seconds, and {max(0.0, left):.0f} were left"
        self.put(part, case, {"state": NOT_REACHED, "why": why})

    def put(self, part: Part, case: Case, found: Found) -> None:
        """Keep what a case found, on disk."""
        entry = self.parts.setdefault(part.name, {"question": part.question, "cases": {}})
        entry["cases"][case.name] = {**found, "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        self.save()

    def save(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        replace_json(self.path, _finite(self.content))


def _finite(value: Any) -> Any:
    """The same without infinities and NaN, which JSON has not: they become words."""
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    is_number = not isinstance(value, float) or abs(value) < float("inf")
    return value if is_number else str(value)
