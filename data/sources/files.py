"""Any .txt, .jsonl or .jsonl.zst file, or a folder of them, given as `--dataset PATH`.

A .txt file is one document (id: its name); a .jsonl file holds one a line (id: "NAME:LINE"), a JSON string
or an object whose --text_field is read. A folder is read with its sub-folders, sorted by name; other
files in it, and hidden ones, are passed over. --dataset_group picks one sub-folder or one file, by its name
without the ending. There are no splits: name the split's own folder.
"""

from bisect import bisect_right
from pathlib import Path

from data.sources.lines import LineFile
from data.sources.source import DataRequest, Source, check_group
from data.sources.text import reading
from data.sources.text_files import TextFiles
from utils.errors import UserError

SUFFIXES = (".txt", ".jsonl", ".jsonl.zst")


class Chain:
    """A Source: several sources one after the other."""

    def __init__(self, parts: list[Source]):
        self._parts = parts
        self._ends = []  # of each part, counted in documents of the whole
        total = 0
        for part in parts:
            total += len(part)
            self._ends.append(total)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def read(self, place: int) -> tuple[str, str]:
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
    files = list_files(path)
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
    return Chain(parts)


def open_file(path: Path, name: str, request: DataRequest, needed: int | None) -> Source:
    """The documents of one file, whose ids begin with `name`. Raises UserError."""
    if not path.name.endswith(SUFFIXES):
        raise UserError(f"--dataset {path} is none of the files that can be read: {', '.join(SUFFIXES)}")
    if path.suffix == ".txt":
        return TextFiles([(name, path)], request.max_document_bytes)
    return LineFile(path, name, request.text_field, needed, request.max_document_bytes)


def list_files(folder: Path) -> dict[str, Path]:
    """The readable files of a folder, by their path within it. Raises UserError if there are none."""
    with reading(folder):
        files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    files = {
        name: path
        for name, path in files.items()
        if name.endswith(SUFFIXES) and not any(part.startswith(".") for part in name.split("/"))
    }
    if not files:
        raise UserError(f"--dataset {folder} holds no {', '.join(SUFFIXES)} file, nor a saved data set")
    return files


def group_of(name: str) -> str:
    """The group of a file: the first folder of its name, or the name without its ending."""
    folder, slash, _ = name.partition("/")
    return folder if slash else name.removesuffix(".zst").removesuffix(".jsonl").removesuffix(".txt")
