"""Every corpus under one name: `get_data("plays")`, `get_data("my_texts/")`, `get_data("org/hub_name")`.

To add a corpus, write a function from a DataRequest to a Source (data/sources/source.py) and name it in SOURCES.
Local files and Hugging Face data sets need not even that: `--dataset` takes their path or name.
"""

from collections.abc import Callable
from pathlib import Path

from data.corpus import Corpus
from data.sources.compression import COMPRESSIONS
from data.sources.files import KINDS, open_files
from data.sources.hugging_face import is_saved, open_hub, open_saved
from data.sources.pile import open_pile
from data.sources.plays import open_plays
from data.sources.source import MOST_DOCUMENT_BYTES, DataRequest, Source
from data.sources.text import reading
from utils.errors import UserError, did_you_mean

SOURCES: dict[str, Callable[[DataRequest], Source]] = {
    "plays": open_plays,
    "the_pile": open_pile,
}

KNOWN = ", ".join(SOURCES)
PATH_BEGINNINGS = ("/", "./", "../", "~")
PATH_ENDINGS = (*KINDS, *COMPRESSIONS, "/")


def get_data(
    name: str,
    *,
    dataset_dir: str | Path | None = None,
    dataset_group: str | None = None,
    split: str = "test",
    text_field: str = "text",
    start_data_from: int = 0,
    max_data_num: int | None = None,
    seed: int | None = None,
    strict: bool = True,
    max_document_bytes: int = MOST_DOCUMENT_BYTES,
) -> Corpus:
    """The documents that the data flags select, read lazily.

    name: an entry of SOURCES, else a local file or folder (within `dataset_dir` if given), else a data set
        on the Hugging Face hub.
    start_data_from, max_data_num: the stretch of documents to read, in the corpus's order.
    seed: None keeps that order; an int draws one from it, before the stretch is taken.
    strict: whether null in place of a text is an error; else it is an empty document.
    max_document_bytes: of a line or file that is one document; a longer one is refused.
    Raises UserError, one sentence naming the flag or file, for anything that is not there or makes no sense.
    """
    if not name:
        raise UserError(f"--dataset is empty: give a file, a folder, a hub name or one of {KNOWN}")
    check_numbers(start_data_from, max_data_num, seed)
    request = DataRequest(
        name=name,
        dataset_dir=None if dataset_dir is None else Path(dataset_dir).expanduser(),
        dataset_group=dataset_group,
        split=split,
        text_field=text_field,
        needed=None if max_data_num is None or seed is not None else start_data_from + max_data_num,
        max_document_bytes=max_document_bytes,
    )
    return Corpus(
        name,
        open_source(request),
        start_data_from=start_data_from,
        max_data_num=max_data_num,
        seed=seed,
        strict=strict,
    )


def open_source(request: DataRequest) -> Source:
    """The registered, local or hub source of the request's name, in this order. Raises UserError."""
    if request.name in SOURCES:
        return SOURCES[request.name](request)
    path = (request.dataset_dir or Path()) / Path(request.name).expanduser()
    with reading(path):
        if path.exists():
            return open_saved(path, request) if is_saved(path) else open_files(path, request)
    close = did_you_mean(request.name, SOURCES)
    if request.dataset_dir is not None or is_path(request.name):
        raise UserError(f"--dataset {path} is not there: give a file, a folder, a hub name or one of {KNOWN}{close}")
    return open_hub(request, KNOWN, close)


def is_path(name: str) -> bool:
    """Whether a name can only be meant as a path: the hub's names are NAME or OWNER/NAME."""
    return name.startswith(PATH_BEGINNINGS) or name.lower().endswith(PATH_ENDINGS) or name.count("/") > 1


def check_numbers(start_data_from: int, max_data_num: int | None, seed: int | None) -> None:
    """Raise a UserError for a number that selects nothing."""
    if start_data_from < 0:
        raise UserError(f"--start_data_from {start_data_from} is negative: give 0 or more")
    if max_data_num is not None and max_data_num < 1:
        raise UserError(f"--max_data_num {max_data_num} leaves nothing to read: give 1 or more")
    if seed is not None and seed < 0:
        raise UserError(f"--seed {seed} is negative: give 0 or more")
