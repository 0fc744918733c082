"""A file of one of KINDS, plain or compressed, or a folder of them, given as `--dataset PATH`.

A .txt file is one document (id: its name); a .jsonl file holds one a line (id: "NAME:LINE"), a JSON string
or an object whose --text_field is read; .json, .csv, .tsv and .parquet files are as `tables.py` says. Endings count in
any case. A folder is read with its sub-folders, sorted by name; other files in it are passed over and named, hidden
ones passed over. --dataset_group picks one sub-folder or one file, by its name without the ending. There are no
splits: name the split's own folder.
"""

from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path

from data.document import LongText
from data.sources.compression import COMPRESSIONS, content_name
from data.sources.lines import LineFile
from data.sources.source import DataRequest, Source, check_group
from data.sources.tables import SUFFIXES as TABLES
from data.sources.tables import open_json, open_table
from data.sources.text import reading
from data.sources.text_files import TextFiles
from utils.errors import UserError
from utils.text_tables import counted

KINDS = (".txt", ".jsonl", ".json", *TABLES)
READ = f"{', '.join(KINDS)}, each also with {', '.join(COMPRESSIONS)}"
NAMED_UNREAD = 5


class Chain:
    """A Source: several sources one after the other. unread: names of files beside them that are passed over."""

    def __init__(self, parts: list[Source], unread: Sequence[str] = ()):
        self._parts, self.unread = parts, tuple(unread)
        self._ends = []  # of each part, counted in documents of the whole
        total = 0
        for part in parts:
            total += len(part)
            self._ends.append(total)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def read(self, place: int) -> tuple[str, str | LongText]:
        """(id, text). Raises UserError."""
        number = bisect_right(self._ends, place)
        part = self._parts[number]
        return part.read(place - self._ends[number] + len(part))


def open_files(path: Path, request: DataRequest) -> Source:
    """The documents of a file or of a folder's files. Raises UserError."""
    request.refuse("split")
    if not path.is_dir():
        request.refuse("dataset_group")
        return open_file(path, path.name, request, request.needed)
    files, unread = list_files(path)
    if request.dataset_group is not None:
        check_group(request.dataset_group, {group_of(name) for name in files}, path)
        files = {name: file for name, file in files.items() if group_of(name) == request.dataset_group}
    parts, still_needed = [], request.needed
    for name, file in sorted(files.items()):
        if still_needed == 0:
            break
        parts.append(open_file(file, name, request, still_needed))
        if still_needed is not None:
            still_needed -= len(parts[-1])
    return Chain(parts, unread)


def open_file(path: Path, name: str, request: DataRequest, needed: int | None) -> Source:
    """The documents of one file, whose ids begin with `name`. Raises UserError."""
    if not is_readable(path.name):
        raise UserError(f"--dataset {path} is none of the files that can be read: {READ}")
    kind, text_field, most = content_name(path.name), request.text_field, request.max_document_bytes
    if kind.endswith(".txt"):
        return TextFiles([(name, path)], most)
    if kind.endswith(TABLES):
        return open_table(path, name, text_field, most)
    if kind.endswith(".json"):
        return open_json(path, name, request, needed)
    return LineFile(path, name, text_field, needed, most)


def is_readable(name: str) -> bool:
    """Whether a file of this name is of a kind that is read."""
    return content_name(name).endswith(KINDS)


def list_files(folder: Path) -> tuple[dict[str, Path], list[str]]:
    """The readable files of a folder, by their path within it, and the names of the others, hidden ones aside.

    Raises UserError if there are none to read.
    """
    with reading(folder):
        files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    shown = {name: path for name, path in files.items() if not any(part[0] == "." for part in name.split("/"))}
    read = {name: path for name, path in shown.items() if is_readable(name)}
    if not read:
        raise UserError(f"--dataset {folder} holds no file that can be read ({READ}), nor a saved data set")
    return read, sorted(shown.keys() - read.keys())


def words_on_unread(names: Sequence[str]) -> str:
    """The files of a folder that are passed over, as the end of a sentence; nothing where there are none."""
    if not names:
        return ""
    listed, more = ", ".join(names[:NAMED_UNREAD]), len(names) - NAMED_UNREAD
    return f"; not read there: {listed}" + (f" and {counted(more, 'other')}" if more > 0 else "")


def group_of(name: str) -> str:
    """The group of a file: the first folder of its name, or the name without its ending."""
    folder, slash, _ = name.partition("/")
    plain = content_name(name)
    return folder if slash else name[: len(next(plain.removesuffix(kind) for kind in KINDS if plain.endswith(kind)))]
