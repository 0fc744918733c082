"""`the_pile`: DIR/SPLIT/GROUP.jsonl, one JSON string a line.

`python data/split_pile_file.py DIR/SPLIT.jsonl DIR/SPLIT` writes such a folder. Documents come sorted by their number
of characters, whatever the order of the file, so `--start_data_from N` skips the N shortest; those of ArXiv that have
no colon are left out. Both as published.
"""

from array import array
from pathlib import Path

from data.sources.lines import LineFile
from data.sources.source import DataRequest, check_group
from data.sources.text import NoTextError, reading
from utils.errors import UserError

SUFFIXES = (".jsonl", ".jsonl.zst")


NEEDED_IN = {"ArXiv": ":"}
"""Groups of which only texts with this in them are documents."""


class ByLength:
    """A Source: the documents of a file from the shortest to the longest, equally long ones in the order of the file.

    needed: what a text must hold to be one. Every text is read once for its length; 8 bytes each are kept.
    """

    def __init__(self, lines: LineFile, needed: str = "") -> None:
        """Raises UserError where a line cannot be read."""
        self._lines = lines
        texts = ((place, _text_or_nothing(lines, place)) for place in range(len(lines)))
        found = [(len(text), place) for place, text in texts if needed in text]
        self._places = array("q", (place for _, place in sorted(found)))

    def __len__(self) -> int:
        return len(self._places)

    def read(self, place: int) -> tuple[str, str]:
        """(id, text). Raises UserError."""
        return self._lines.read(self._places[place])


def _text_or_nothing(lines: LineFile, place: int) -> str:
    """The text at a place; of null, which is an error only where it is read, an empty one."""
    try:
        return lines.read(place)[1]
    except NoTextError:
        return ""


def open_pile(request: DataRequest) -> ByLength:
    """One group of one split. Raises UserError that says what is there instead."""
    if request.dataset_dir is None:
        raise UserError("--dataset the_pile needs --dataset_dir, the folder that holds SPLIT/GROUP.jsonl")
    folder = split_folder(request.dataset_dir, request.split)
    with reading(folder):
        names = sorted(path.name for path in folder.iterdir() if path.name.endswith(SUFFIXES))
    # Reversed, GROUP.jsonl comes after GROUP.jsonl.zst: of a group kept both ways the plain file is read.
    groups = {name.removesuffix(".zst").removesuffix(".jsonl"): name for name in reversed(names)}
    if request.dataset_group is None:
        there = ", ".join(sorted(groups)) or "none"
        raise UserError(f"--dataset the_pile needs --dataset_group, the groups of {folder} are: {there}")
    check_group(request.dataset_group, set(groups), folder)
    path = folder / groups[request.dataset_group]
    needed = NEEDED_IN.get(request.dataset_group, "")
    most = request.max_document_bytes
    documents = ByLength(LineFile(path, request.dataset_group, request.text_field, most_bytes=most), needed)
    if not len(documents):
        raise UserError(f"{path} holds no documents{f' with {needed!r} in them' if needed else ''}")
    return documents


def split_folder(root: Path, split: str) -> Path:
    """ROOT/SPLIT, which must be there. Raises UserError."""
    folder = root / split
    if not root.is_dir():
        raise UserError(f"--dataset_dir {root} is not a folder: give the one that holds SPLIT/GROUP.jsonl")
    if folder.is_dir():
        return folder
    with reading(root):
        names = sorted(path.name for path in root.iterdir())
    for suffix in SUFFIXES:
        if split + suffix in names:
            whole = root / (split + suffix)
            command = f"python data/split_pile_file.py {whole} {folder}"
            raise UserError(f"{folder} is not there, but {whole.name} is: run `{command}` first")
    there = ", ".join(name for name in names if (root / name).is_dir()) or "none"
    raise UserError(f"--split {split} is not a folder in {root}, whose folders are: {there}")
