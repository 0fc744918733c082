"""The page of a report: its template filled, with its style and script inside and nothing from outside."""

import base64
import hashlib
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from utils.trials.versions import CONTINUED, describe, environments
from visualization.reporting.columns import Comparison, argument_rows, comparisons, differing_arguments
from visualization.reporting.pictures import ShownPicture
from visualization.reporting.trials import ReportTrial
from visualization.reporting.words import argument_text, typed_words

FOLDER = Path(__file__).with_name("page")


def render(trials: Sequence[ReportTrial], pictures: Sequence[ShownPicture], title: str | None = None) -> str:
    """The whole page. Everything that comes from trials or the command line is escaped."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    tables = comparisons(trials)
    differing = differing_arguments(trials)
    style, script = ((FOLDER / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    return environment.get_template("report.html").render(
        title=title or (f"{len(trials)} trials compared" if len(trials) > 1 else f"Trial {trials[0].label}"),
        policy=_policy(style, script),
        style=Markup(style),
        script=Markup(script),
        tables=tables,
        notes={column.heading: column.note for table in tables for column in table.columns if column.note},
        labels=[trial.label for trial in trials],
        pictures=pictures,
        shared=_shared_arguments(trials, differing),
        differing=[f"--{name}" for name in differing],
        differing_rows=[[_value(trial, name) for name in differing] for trial in trials],
        trials=_trial_sections(tables, differing),
    )


def _policy(style: str, script: str) -> str:
    """A content security policy that lets a browser load nothing and run only this style and script."""
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)]
    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _shared_arguments(trials: Sequence[ReportTrial], differing: Sequence[str]) -> list[tuple[str, str]]:
    """Arguments that all trials were given alike, with a value."""
    first = trials[0].arguments
    names = [name for name, value in first.items() if value is not None and name not in (*differing, "log_dir")]
    everywhere = [name for name in names if all(trial.arguments.get(name) == first[name] for trial in trials)]
    return argument_rows(trials[0], everywhere)


def _value(trial: ReportTrial, name: str) -> str:
    return argument_text(trial.arguments[name]) if name in trial.arguments else ""


def _trial_sections(tables: Sequence[Comparison], differing: Sequence[str]) -> list[dict[str, Any]]:
    """Values of the template for each trial, in the order of the page."""
    sections = {
        place: _trial_section(trial, [(column.heading, column.cells[row].text) for column in table.columns], differing)
        for table in tables
        for row, (place, trial) in enumerate(zip(table.places, table.trials))
    }
    return [sections[place] for place in sorted(sections)]


def _trial_section(trial: ReportTrial, numbers: Sequence[tuple[str, str]], differing: Sequence[str]) -> dict[str, Any]:
    """Values of the template for one trial."""
    config = trial.config
    facts = {
        "Log dir": str(trial.log_dir),
        "Script": trial.script,
        "Git commit": config.get("git_commit"),
        "Seed": config.get("seed"),
        "Corpus": _with_count(config["corpus"].get("name"), config["corpus"].get("documents"), "documents"),
        "Model": _with_count(config["model"].get("name"), config["model"].get("parameters"), "parameters"),
        "Model config (SHA-256)": config["model"].get("config_sha256"),
        "Tokenizer": config["model"].get("tokenizer"),
        "Processes": config.get("world_size"),
        "Went on with": describe(environments(config)) if config.get(CONTINUED) else None,
        "Versions": ", ".join(f"{name} {version}" for name, version in (config.get("versions") or {}).items()),
    }
    return {
        "label": trial.label,
        "measures": trial.kind.measures,
        "numbers": [(heading, text) for heading, text in numbers if text],
        "command": [shlex.quote(word) for word in typed_words(config)],
        "facts": [(name, str(value)) for name, value in facts.items() if value not in (None, "")],
        "marked": argument_rows(trial, differing),
        "arguments": argument_rows(trial, [name for name in trial.arguments if name not in differing]),
        "breakdown": trial.breakdown,
    }


def _with_count(name: Any, count: Any, what: str) -> str:
    return f"{name}, {count:,} {what}" if isinstance(count, int) else str(name or "")
