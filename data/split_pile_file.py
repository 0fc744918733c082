"""Split a file of the Pile into one file a group, each sorted by length: the layout that `the_pile` reads.

    python data/split_pile_file.py PILE/test.jsonl.zst PILE/test

One pass over the input. Texts go through a temporary file in the output folder, never through memory, which
holds 16 bytes a document and as much again for the group being written; the folder's disk needs room for
twice the texts.
"""

import argparse
import json
import os
import sys
import tempfile
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from tqdm import tqdm

from data.sources.lines import read_lines
from data.sources.text import explained, json_type, parse_json
from utils.errors import UserError
from utils.program import run_main


@dataclass
class Group:
    """Places in the temporary file of one group's documents, in the order of the input."""

    lengths: array = field(default_factory=lambda: array("q"))  # characters
    starts: array = field(default_factory=lambda: array("q"))  # bytes

    def add(self, length: int, start: int) -> None:
        self.lengths.append(length)
        self.starts.append(start)

    def sorted_starts(self) -> np.ndarray:
        """The starts (documents,), shortest document first, equal ones in the order of the input."""
        lengths, starts = (np.frombuffer(values, np.int64) for values in (self.lengths, self.starts))
        return starts[np.argsort(lengths, kind="stable")]


def split_pile_file(source: Path, output: Path, overwrite: bool = False) -> dict[str, Group]:
    """Write OUTPUT/GROUP.jsonl for every group of `source`, all of them or, on any error, none.

    source: one JSON object a line, with "text" and "meta": {"pile_set_name"}; decompressed if named .zst.
    overwrite: replace files of the same names; otherwise a folder that holds .jsonl files is refused.
    Returns the groups by name. Raises UserError.
    """
    check_paths(source, output, overwrite)
    with explained(f"{output} cannot be written"):
        output.mkdir(parents=True, exist_ok=True)
        with (
            tempfile.TemporaryFile(dir=output) as texts,
            tempfile.TemporaryDirectory(dir=output, prefix=".split-") as staging,
        ):
            groups = collect(source, texts)
            for name, group in tqdm(groups.items(), desc="writing", unit="group", disable=None):
                write_sorted(group, texts, Path(staging, f"{name}.jsonl"))
            for name in groups:
                os.replace(Path(staging, f"{name}.jsonl"), output / f"{name}.jsonl")
    return groups


def check_paths(source: Path, output: Path, overwrite: bool) -> None:
    """Refuse, before any work, an input that is not there and an output that would be lost."""
    if not source.is_file():
        raise UserError(f"{source} is not a file: give the Pile's val.jsonl, test.jsonl or their .jsonl.zst")
    held = sorted(path.name for path in output.glob("*.jsonl"))
    if held and not overwrite:
        raise UserError(f"{output} already holds {held[0]}: give another folder or --overwrite")


def collect(source: Path, texts: BinaryIO) -> dict[str, Group]:
    """Append each text to `texts` as a JSON line; return where each group's lie. Raises UserError."""
    groups: dict[str, Group] = {}
    start = 0
    with tqdm(total=source.stat().st_size, desc="reading", unit="B", unit_scale=True, disable=None) as bar:
        for number, line in read_lines(source, on_progress=lambda done: bar.update(done - bar.n)):
            if line.isspace():
                continue
            name, text = parse_pile_line(line, f"{source} line {number}")
            copy = json.dumps(text).encode() + b"\n"
            texts.write(copy)
            groups.setdefault(name, Group()).add(len(text), start)
            start += len(copy)
    if not groups:
        raise UserError(f"{source} holds no documents")
    return groups


def parse_pile_line(line: bytes, where: str) -> tuple[str, str]:
    """(group, text) of one line of the Pile. Raises UserError."""
    value = parse_json(line, where)
    text = string_at(value, ("text",), where)
    name = string_at(value, ("meta", "pile_set_name"), where)
    if not name or name.startswith(".") or "/" in name or "\0" in name or not can_name_a_file(name):
        raise UserError(f"{where}: 'meta.pile_set_name' is {name!r}, which cannot be the name of a file")
    return name, text


def can_name_a_file(name: str) -> bool:
    """Whether the file system's encoding has it; "\\ud800" is legal JSON, and no text."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def string_at(value: Any, keys: tuple[str, ...], where: str) -> str:
    """The string that the nested objects of `value` hold under `keys`. Raises UserError."""
    for key in keys:
        if not isinstance(value, dict) or key not in value:
            raise UserError(f"{where} has no field '{'.'.join(keys)}', which every line of the Pile has")
        value = value[key]
    if not isinstance(value, str):
        raise UserError(f"{where}: '{'.'.join(keys)}' must be a string, not {json_type(value)}")
    return value


def write_sorted(group: Group, texts: BinaryIO, path: Path) -> None:
    """Copy the group's lines out of `texts` to `path`, shortest text first."""
    with open(path, "wb") as file:
        for start in group.sorted_starts():
            texts.seek(start)
            file.write(texts.readline())


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    description, _, details = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(
        description=description, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("input", type=Path, help="the Pile's val.jsonl or test.jsonl, or its .jsonl.zst")
    parser.add_argument("output", type=Path, help="folder for the GROUP.jsonl files; its name is the split")
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there")
    return parser.parse_args()


def main() -> None:
    """Split the file, then say what was written."""
    arguments = parse_arguments()
    groups = split_pile_file(arguments.input, arguments.output, arguments.overwrite)
    for name, group in sorted(groups.items()):
        shortest, longest = min(group.lengths), max(group.lengths)
        print(f"{name}: {len(group.lengths):,} documents of {shortest:,} to {longest:,} characters")


if __name__ == "__main__":
    run_main(main)
