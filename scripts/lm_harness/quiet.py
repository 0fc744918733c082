"""lm-eval with its warnings on our console, but without its bars and its word on every metric's defaults."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lm_eval.api.task
import tqdm

from scripts.harness.announcing import saying_warnings
from utils.console import Console

SAYS_DEFAULTS = re.compile(r"metric \S+ is defined, but \w+ is not")
"""Of a metric that the task's file merely names: lm-eval's own aggregation is what is meant."""


class _NoBar(tqdm.tqdm):
    """A progress bar that is never shown: what goes on is on the line of our own."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options | {"disable": True})


@contextmanager
def hearing_lm_eval(console: Console) -> Iterator[None]:
    """In it, the console says what lm-eval warns of, as far as a user can do anything about it."""
    logger, shown = lm_eval.api.task.eval_logger, tqdm.tqdm
    logger.addFilter(_is_news)
    tqdm.tqdm = lm_eval.api.task.tqdm = _NoBar  # its metrics import the former when they are computed
    try:
        with saying_warnings(console, "lm_eval"):
            yield
    finally:
        tqdm.tqdm = lm_eval.api.task.tqdm = shown
        logger.removeFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    return SAYS_DEFAULTS.search(record.getMessage()) is None
