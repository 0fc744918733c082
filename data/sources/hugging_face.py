"""Any Hugging Face data set: a folder that `save_to_disk` wrote, or a name on the hub.

--split picks the split; --dataset_group the configuration (hub only); --text_field the column of texts.
"""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from data.sources.source import MOST_DOCUMENT_BYTES, DataRequest
from data.sources.text import check_text
from utils.errors import UserError

SPLITS_FILE = "dataset_dict.json"
MARKS = (SPLITS_FILE, "state.json")  # what save_to_disk leaves, with and without splits


class Rows:
    """A Source: the rows of a memory-mapped table, of which only one column is read."""

    def __init__(self, table: Any, name: str, text_field: str, most_bytes: int = MOST_DOCUMENT_BYTES):
        """table: a datasets.Dataset. name: what ids and errors call it. most_bytes: of a text. Raises UserError."""
        if text_field not in table.column_names:
            there = ", ".join(table.column_names) or "none"
            raise UserError(f"--dataset {name} has no column '{text_field}' (--text_field); it has: {there}")
        self._table = table.select_columns([text_field]).with_format("arrow")  # whose texts are on disk until asked for
        self._most_bytes = most_bytes
        self._name = name
        self._text_field = text_field

    def __len__(self) -> int:
        return len(self._table)

    def read(self, place: int) -> tuple[str, str]:
        """(id, text); the id is "NAME:ROW", rows counted from 0. Raises UserError."""
        where = f"--dataset {self._name}, row {place}, column '{self._text_field}',"
        cell = self._table[place : place + 1].column(self._text_field)[0]
        content = cell.as_buffer() if hasattr(cell, "as_buffer") else None  # of a text, unless it is null
        if content is not None and content.size > self._most_bytes:
            raise UserError(
                f"{where} has more than {self._most_bytes:,} bytes: take it out, or allow more with "
                "--max_document_bytes"
            )
        return f"{self._name}:{place}", check_text(cell.as_py(), where)


def is_saved(path: Path) -> bool:
    """Whether `path` is a folder that save_to_disk wrote."""
    return any((path / mark).is_file() for mark in MARKS)


def open_saved(path: Path, request: DataRequest) -> Rows:
    """A data set saved to disk; one saved without splits is read whole. Raises UserError."""
    request.refuse("dataset_group")
    loaded = load(f"--dataset {path} cannot be loaded", lambda datasets: datasets.load_from_disk(path))
    if not (path / SPLITS_FILE).is_file():
        request.refuse("split")
        return Rows(loaded, path.name, request.text_field, request.max_document_bytes)
    if request.split not in loaded:
        raise UserError(f"--split {request.split} is not in {path}, whose splits are: {', '.join(loaded)}")
    name = f"{path.name}/{request.split}"
    return Rows(loaded[request.split], name, request.text_field, request.max_document_bytes)


def open_hub(request: DataRequest, known: str, close: str = "") -> Rows:
    """A data set of the hub, downloaded on first use; never runs the data set's code. Raises UserError.

    known: the names that could have been meant instead. close: the end of a sentence, which asks after one of them.
    """
    name, group, split = request.name, request.dataset_group, request.split
    failure = f"--dataset {name} is no local path, none of {known}, and cannot be loaded from the Hugging Face hub"
    table = load(failure, lambda datasets: datasets.load_dataset(name, group, split=split), close)
    named = "/".join(filter(None, (name, group, split)))
    return Rows(table, named, request.text_field, request.max_document_bytes)


def load(failure: str, loader: Callable[[ModuleType], Any], hint: str = "") -> Any:
    """`loader(datasets)`; if anything goes wrong, UserError: `failure`, the reason and the hint, in one line."""
    try:
        import datasets
    except ImportError as error:
        raise UserError(f"{failure}: the package datasets is missing (`pip install datasets`)") from error
    try:
        return loader(datasets)
    except Exception as error:  # the library raises dozens of types, its dependencies' among them
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{failure}: {reason}{hint}") from error
