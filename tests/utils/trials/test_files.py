"""The names of a log dir's files are written down once."""

import ast
from pathlib import Path

from utils.trials import files

ROOT = Path(__file__).resolve().parents[3]
NAMED_IN = ROOT / "utils" / "trials" / "files.py"


def test_no_other_source_spells_a_name_out():
    """But for models/, where a checkpoint of a model has a config.json as well."""
    sources = [
        path for folder in ("utils", "data", "scripts", "visualization", "benchmarks") for path in sources_of(folder)
    ]
    spelt = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.value!r}"
        for path in sources
        if path != NAMED_IN
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value in files.OWN_FILES
    ]
    assert not spelt, f"take these names from {NAMED_IN.name}: {', '.join(spelt)}"


def sources_of(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))
