"""What the pages are held against: the scripts' own parsers, and the texts in the sources."""

import argparse
import ast
import runpy
import sys
from functools import cache

from tests.docs.pages import ROOT

FOLDERS = ("models", "utils", "data", "scripts", "visualization", "benchmarks")
PLACEHOLDER = "…"


class Parsed(BaseException):
    """Raised in place of parsing. No error of a script's own, so that none of them catches it."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        super().__init__()
        self.parser = parser


@cache
def flags(script: str) -> dict[str, tuple[str, ...]]:
    """The flags that a Python script's parser takes: by each one's name all of its names; --help apart."""
    parse, argv, path = argparse.ArgumentParser.parse_known_args, sys.argv, list(sys.path)

    def stop(parser, args=None, namespace=None):
        raise Parsed(parser)

    argparse.ArgumentParser.parse_known_args, sys.argv = stop, [script]
    try:
        names = runpy.run_path(str(ROOT / script), run_name="script")
        names.get("parse_arguments", names["main"])()
    except Parsed as parsed:
        actions = [action for action in parsed.parser._actions if action.help != argparse.SUPPRESS]
        several = [tuple(action.option_strings) for action in actions if "--help" not in action.option_strings]
        return {flag: names for names in several for flag in names}
    finally:
        argparse.ArgumentParser.parse_known_args, sys.argv, sys.path[:] = parse, argv, path
    return {}


def commands() -> list[str]:
    """Every Python file that users call, by its path."""
    paths = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    return sorted(
        path.relative_to(ROOT).as_posix() for path in paths if '__name__ == "__main__"' in path.read_text("utf-8")
    )


@cache
def texts() -> tuple[str, ...]:
    """Every string in the sources, with … for what an f-string fills in."""
    return tuple(
        text
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (text := _text(node))
    )


def _text(node: ast.AST) -> str | None:
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else PLACEHOLDER for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None
