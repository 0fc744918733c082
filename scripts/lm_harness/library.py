"""The package lm-eval: an extra, so it may be missing or too old, which one sentence says before anything is loaded."""

import os
import re
from importlib.metadata import PackageNotFoundError, version

from utils.errors import SharedError

OLDEST = "0.4.13"
"""The first release that loads tasks and groups into flat tables."""


def require_lm_eval() -> None:
    """Raise SharedError where lm-eval cannot be used; else have it compute its standard errors in this process."""
    found = lm_eval_version()
    if found is None:
        raise SharedError(f"this script needs the package lm-eval, an extra: pip install 'lm-eval>={OLDEST}'")
    if _release(found) < _release(OLDEST):
        raise SharedError(f"this script needs lm-eval {OLDEST} or newer, and this is {found}: pip install -U lm-eval")
    os.environ.setdefault("DISABLE_MULTIPROC", "1")  # it would fork, with a GPU in use; the numbers are the same


def lm_eval_version() -> str | None:
    """The version that is installed; None where there is none."""
    try:
        return version("lm-eval")
    except PackageNotFoundError:
        return None


def _release(text: str) -> tuple[int, ...]:
    """(major, minor, patch)."""
    return tuple(map(int, re.findall(r"\d+", text)[:3]))
