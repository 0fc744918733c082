"""Words, numbers and identifiers drawn at random, as RULER draws them: words from the lists of wonderwords."""

import importlib.util
import random
import uuid
from collections.abc import Callable
from functools import cache
from pathlib import Path

from data.sources.text import reading
from utils.errors import UserError

PACKAGE = "wonderwords"


@cache
def word_list(kind: str) -> list[str]:
    """The package's words of a kind ("noun", "adjective", "verb"): lower-case ones, sorted. Raises UserError."""
    # Only looked up, and read as a text: nothing of the package runs.
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"this task needs the word lists of the package {PACKAGE} (`pip install {PACKAGE}`)")
    path = Path(spec.submodule_search_locations[0]) / "assets" / f"{kind}list.txt"
    with reading(path):
        words = path.read_text(encoding="utf-8").split()
    return sorted({word for word in words if word.isascii() and word.isalpha() and word.islower()})


@cache
def all_words() -> list[str]:
    """Nouns, adjectives and verbs, sorted."""
    return sorted({word for kind in ("noun", "adjective", "verb") for word in word_list(kind)})


def random_word(numbers: random.Random) -> str:
    """An adjective and a noun: "quiet-harbor"."""
    return f"{numbers.choice(word_list('adjective'))}-{numbers.choice(word_list('noun'))}"


def random_number(numbers: random.Random) -> str:
    """A number of seven digits."""
    return str(numbers.randint(10**6, 10**7 - 1))


def random_uuid(numbers: random.Random) -> str:
    """A UUID of version 4."""
    return str(uuid.UUID(int=numbers.getrandbits(128), version=4))


DRAWERS: dict[str, Callable[[random.Random], str]] = {
    "words": random_word,
    "numbers": random_number,
    "uuids": random_uuid,
}


def draw(kind: str, numbers: random.Random, count: int, taken: frozenset[str] = frozenset()) -> list[str]:
    """So many different values of a kind of DRAWERS, none of them `taken`."""
    found: dict[str, None] = {}
    while len(found) < count:
        value = DRAWERS[kind](numbers)
        if value not in taken:
            found[value] = None
    return list(found)
