"""Tables of documents: .csv, .tsv and .parquet files, read by the package datasets, and .json files, read whole."""

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from data.sources.compression import content_name, decompressed, is_compressed
from data.sources.hugging_face import Rows, load
from data.sources.lines import LineFile
from data.sources.source import DataRequest, Source
from data.sources.text import decode, explained, pick_text, reading
from utils.errors import UserError

CSV = {"keep_default_na": False}  # "NA" is a text, and so is an empty one
READERS = {".csv": ("csv", CSV), ".tsv": ("csv", {**CSV, "sep": "\t"}), ".parquet": ("parquet", {})}
SUFFIXES = tuple(READERS)


class UnpackedRows(Rows):
    """A Source: the rows of a table that lies in a temporary folder, gone with them."""

    def __init__(self, folder: TemporaryDirectory, table: Any, name: str, text_field: str, most_bytes: int) -> None:
        super().__init__(table, name, text_field, most_bytes)
        self._folder = folder


def open_table(path: Path, name: str, text_field: str, most_bytes: int) -> Rows:
    """The rows of a table, of which the column `text_field` is read; memory-mapped. Raises UserError.

    A compressed one is unpacked into a temporary folder (TMPDIR says where).
    """
    if not is_compressed(path):
        return Rows(_load_table(path, path), name, text_field, most_bytes)
    with explained(f"{path} cannot be decompressed into a temporary folder (TMPDIR says where)"):
        folder = TemporaryDirectory()
        unpacked = Path(folder.name) / content_name(path.name)
        with reading(path), open(path, "rb") as file, decompressed(path, file) as content, open(unpacked, "wb") as copy:
            shutil.copyfileobj(content, copy)
    return UnpackedRows(folder, _load_table(path, unpacked, cache_dir=folder.name), name, text_field, most_bytes)


def _load_table(path: Path, file: Path, **options: Any) -> Any:
    """The datasets.Dataset of a file, which errors call `path`."""
    builder, own = next(reader for ending, reader in READERS.items() if content_name(path.name).endswith(ending))
    options |= own
    return load(
        f"--dataset {path} cannot be read as a table",
        lambda datasets: datasets.load_dataset(builder, data_files=[str(file)], split="train", **options),
    )


class JsonFile:
    """A Source: the documents of a .json file, a string, an object with a text field, or a list of these."""

    def __init__(self, values: list[object], path: Path, label: str, text_field: str) -> None:
        self._values, self._path, self._label, self._text_field = values, path, label, text_field

    def __len__(self) -> int:
        return len(self._values)

    def read(self, place: int) -> tuple[str, str]:
        """(id, text); the id is "LABEL:NUMBER", counted from 1. Raises UserError."""
        where = f"{self._path}, document {place + 1},"
        return f"{self._label}:{place + 1}", pick_text(self._values[place], self._text_field, where)


def open_json(path: Path, name: str, request: DataRequest, needed: int | None) -> Source:
    """The documents of a .json file, which may also hold one a line. Raises UserError."""
    text_field, most = request.text_field, request.max_document_bytes
    with reading(path), open(path, "rb") as file, decompressed(path, file) as content:
        raw = content.read(most + 1)
    if len(raw) > most:
        raise UserError(
            f"{path} has more than {most:,} bytes, and a .json file is read whole: save it as .jsonl, a document a "
            "line, or allow more with --max_document_bytes"
        )
    text = decode(raw, str(path))
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            return LineFile(path, name, text_field, needed, most)
        raise UserError(f"{path} is malformed JSON: {error.msg} in line {error.lineno}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is JSON that cannot be read: {error}") from error
    return JsonFile(value if isinstance(value, list) else [value], path, name, text_field)
