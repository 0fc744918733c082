"""One text to read, whatever corpus it came from."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Document:
    """A document of a corpus.

    id: names it within its corpus, the same in every run ("tragedies/macbeth", "ArXiv.jsonl:17").
    index: its place in the corpus's selected order, counted before `start_data_from` is applied.
    text: the whole text.
    """

    id: str
    index: int
    text: str
