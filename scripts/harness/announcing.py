"""What models/ and libraries say in their logs, shown to the user and kept in log.txt."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

from models.attention.prefill import choice
from utils.console import Console


class _OnConsole(logging.Handler):
    def __init__(self, console: Console, level: int = logging.INFO) -> None:
        super().__init__(level)
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        self._console.say(record.getMessage())


class _OnceOnConsole(_OnConsole):
    """Says each warning once, of those that differ only in their numbers the first."""

    def __init__(self, console: Console) -> None:
        super().__init__(console, logging.WARNING)
        self._said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        kind = re.sub(r"\d+", "", record.getMessage())
        if kind not in self._said:
            self._said.add(kind)
            super().emit(record)


@contextmanager
def saying_warnings(console: Console, library: str) -> Iterator[None]:
    """In it, the console says what a library warns of."""
    handler, logger = _OnceOnConsole(console), logging.getLogger(library)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


@contextmanager
def announcing_backends(console: Console) -> Iterator[None]:
    """In it, the console says which backend attends and why: once each, when a model first does."""
    logger = logging.getLogger(choice.__package__)
    handler, level = _OnConsole(console), logger.level
    choice.say_once.cache_clear()  # another run may have been in this process
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
