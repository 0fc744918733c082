"""The trials of a report: what their log dirs hold, read and checked, whichever script left them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from utils.errors import UserError
from utils.trials.files import CONFIG, RESULTS
from utils.trials.finished import label_trials
from utils.trials.reading import DAMAGED, read_json
from visualization.reporting.kinds import KINDS, Kind
from visualization.reporting.numbers import Headline, Table

SHAPES: dict[str, tuple[type, ...]] = {
    "arguments": (dict,),
    "model": (dict,),
    "corpus": (dict,),
    "lambda_attention": (dict, type(None)),
    "versions": (dict, type(None)),
    "command": (list, type(None)),
}
"""What config.json holds, as far as a page is made of it; what may be None may be missing."""


@dataclass(frozen=True)
class ReportTrial:
    """One finished trial. evidence: what the pictures of its kind are drawn from."""

    log_dir: Path
    label: str
    config: dict[str, Any]
    kind: Kind
    evidence: Any
    headline: Headline
    breakdown: Table

    @property
    def script(self) -> str:
        """A key of KINDS."""
        return self.config["script"]

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments it was run with, by flag name without dashes."""
        return self.config["arguments"]


def load_report_trials(log_dirs: Sequence[str], labels: Sequence[str] | None = None) -> list[ReportTrial]:
    """Read the trials; UserError names the file that is missing, damaged or of another script, or a folder given twice.

    labels: as `label_trials` takes them.
    """
    folders = [Path(log_dir).resolve() for log_dir in log_dirs]
    for folder, log_dir in zip(folders, log_dirs):
        if folders.count(folder) > 1:
            raise UserError(f"log dir {log_dir} is given twice: give each once")
    labels = label_trials(log_dirs, labels)
    return [_load(log_dir, _visible(label)) for log_dir, label in zip(log_dirs, labels)]


def _load(log_dir: str, label: str) -> ReportTrial:
    folder = Path(log_dir)
    if not folder.is_dir():
        raise UserError(f"log dir {folder} is not a folder: give the --log_dir of a finished trial")
    config = read_json(folder / CONFIG)
    _check_config(config, folder / CONFIG)
    results = read_json(folder / RESULTS)
    kind = KINDS[config["script"]]
    return ReportTrial(
        log_dir=folder,
        label=label,
        config=config,
        kind=kind,
        evidence=kind.load(log_dir, label),
        headline=kind.headline(folder, results),
        breakdown=kind.breakdown(results, folder / RESULTS),
    )


def _check_config(config: dict[str, Any], path: Path) -> None:
    if not isinstance(config.get("arguments"), dict):
        raise UserError(f"{path} holds no arguments: it is damaged, or no trial's config")
    if config.get("script") not in KINDS:
        raise UserError(f"{path} is of the script {config.get('script')!r}: give trials of {', '.join(KINDS)}")
    for name, types in SHAPES.items():
        if not isinstance(config.get(name), types):
            raise UserError(f"{path} holds no {name} as a trial's does: {DAMAGED}")


def _visible(label: str) -> str:
    """The label with what cannot be seen, or stand in a picture's XML, as its escape."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in label)
