"""What models/ says in its log of how it attends, shown to the user and kept in log.txt."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from models.attention.prefill import choice
from utils.console import Console


class _OnConsole(logging.Handler):
    def __init__(self, console: Console) -> None:
        super().__init__(logging.INFO)
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        self._console.say(record.getMessage())


@contextmanager
def announcing_backends(console: Console) -> Iterator[None]:
    """In it, the console says which backend attends and why: once each, when a model first does."""
    handler, level = _OnConsole(console), choice.logger.level
    choice.say_once.cache_clear()  # another run may have been in this process
    choice.logger.addHandler(handler)
    choice.logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        choice.logger.setLevel(level)
        choice.logger.removeHandler(handler)
