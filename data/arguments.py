"""Flags that say which documents are read, in which order, and how much of each.

Nothing heavy is imported here, so `--help` and a wrong flag answer at once.
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING

from data.sources.source import MOST_DOCUMENT_BYTES
from utils.arguments import HarnessParser, whole_number

if TYPE_CHECKING:
    from data.corpus import Corpus


@dataclass(frozen=True)
class CorpusPlan:
    """Which documents of a data set are taken, and in which order; what `data.get_data.get_data` takes."""

    dataset: str
    dataset_dir: str | None = None
    dataset_group: str | None = None
    split: str = "test"
    text_field: str = "text"
    start_data_from: int = 0
    max_data_num: int | None = None
    seed: int | None = None
    max_document_bytes: int = MOST_DOCUMENT_BYTES


CORPUS_ARGUMENTS = tuple(
    field.name for field in fields(CorpusPlan) if field.name not in ("dataset", "max_document_bytes")
)
"""The flags that say which documents of --dataset are taken, and in which order."""

SAME_ARGUMENTS = ("model", "tokenizer_path", "dataset", *CORPUS_ARGUMENTS, "max_length", "truncation_side")
"""The arguments that two trials of documents have alike that scored the same tokens with the same model."""
SAME_STREAM_ARGUMENTS = (
    "model",
    "tokenizer_path",
    "dataset",
    *(name for name in CORPUS_ARGUMENTS if name != "seed"),
    "streaming_length",
    "document_separator",
)
"""Those of streams. Not the seed: another order of the same documents is what one compares. Nor the chunk, which
changes no number."""


LEFT_OF_DOCUMENTS = "left keeps the tokenizer's beginning-of-sequence token, which the published code drops"


@dataclass(frozen=True)
class Truncation:
    """How much of a text is read: at most `max_length` tokens (None: all of them), a longer one cut at one side."""

    max_length: int | None = None
    truncation_side: str = "right"


def add_data_arguments(
    parser: HarnessParser,
    seed: int | None = None,
    seed_help: str = "shuffle the documents with this seed (default: the data set's order)",
) -> None:
    """Which documents to take; `seed` and `seed_help`: what --seed is by default, and what it does."""
    group = parser.add_argument_group("data")
    group.add_argument(
        "--dataset",
        default="plays",
        metavar="NAME",
        help="'plays' (the sample), 'the_pile', a .txt, .jsonl, .json, .csv, .tsv or .parquet file, a folder of them, "
        "or a Hugging Face data set (default: %(default)s)",
    )
    add_selection_arguments(group, "documents")
    group.add_argument("--text_field", default="text", metavar="NAME", help="field that holds the text (default: text)")
    group.add_argument(
        "--max_document_bytes",
        type=whole_number(1),
        default=MOST_DOCUMENT_BYTES,
        metavar="BYTES",
        help="refuse lines, rows and files of more, which are one document each (default: %(default)s)",
    )
    group.add_argument(
        "--seed",
        type=whole_number(0),
        default=seed,
        metavar="N",
        help=seed_help,
    )
    group.add_argument(
        "--strict_data",
        action="store_true",
        help="stop at a document without a text (default: it is skipped, and named in log.txt and results.json)",
    )


def add_selection_arguments(group: argparse._ArgumentGroup, what: str) -> None:
    """Where the data set is, which part of it, and which stretch of its `what` ("documents")."""
    group.add_argument("--dataset_dir", metavar="DIR", help="where the data set's files are")
    group.add_argument("--dataset_group", metavar="NAME", help="part of the data set, such as ArXiv in the_pile")
    group.add_argument("--split", default="test", metavar="NAME", help="split of the data set (default: %(default)s)")
    group.add_argument(
        "--start_data_from",
        type=whole_number(0),
        default=0,
        metavar="N",
        help=f"skip the first N {what} (default: 0)",
    )
    group.add_argument(
        "--max_data_num",
        "--limit",
        type=whole_number(1),
        metavar="N",
        help=f"take at most N {what} (default: all)",
    )


def add_document_arguments(
    parser: HarnessParser,
    what: str = "documents",
    truncation_sides: Sequence[str] = ("right", "left"),
    left_side: str = LEFT_OF_DOCUMENTS,
) -> None:
    """How much of each of `what` to take, and how many at once; `left_side`: what a cut on the left does."""
    group = parser.add_argument_group(what)
    group.add_argument(
        "--max_length",
        type=whole_number(2),
        metavar="TOKENS",
        help=f"truncate longer {what} to this (default: never)",
    )
    group.add_argument(
        "--truncation_side",
        choices=truncation_sides,
        default="right",
        help=f"where the longer {what} are cut; {left_side} (default: %(default)s)",
    )
    group.add_argument(
        "--batch_size",
        type=whole_number(1),
        default=1,
        metavar="N",
        help=f"{what} in one forward, per rank (default: 1)",
    )


def load_corpus(plan: CorpusPlan, strict: bool = True) -> "Corpus":
    """The documents asked for, in their order; unless strict, null is an empty one. Raises UserError."""
    from data.get_data import get_data

    given = asdict(plan)
    return get_data(given.pop("dataset"), **given, strict=strict)
