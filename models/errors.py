"""Errors that a user can mend, as far as loading and converting a model can meet them."""

import difflib
import importlib.util
from collections.abc import Iterable


class UserError(Exception):
    """Bad input. The message is one sentence: the flag or file, what is wrong, what would be right."""


class SharedError(UserError):
    """A UserError that every rank raises with the same message, so only the first rank reports it."""


class LostPeerError(Exception):
    """A rank that this one reads a sequence with is no more, or has failed: nothing can be read without it."""


class VersionError(SharedError, ImportError):
    """A library is older than what the numbers are known to be right with."""


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """ "; did you mean 'vanilla'?" for a name that is close to one of `names`, else nothing."""
    close = difflib.get_close_matches(name, list(names), 1)
    return f"; did you mean {close[0]!r}?" if close else ""


def need_package(user: str, package: str, module: str | None = None) -> None:
    """Raise SharedError unless an optional package is installed. user: what needs it, as the sentence begins.

    module: what the package is imported as, where that is another name.
    """
    try:
        is_there = importlib.util.find_spec(module or package) is not None
    except ModuleNotFoundError:  # not even the module's parent
        is_there = False
    if not is_there:
        raise SharedError(f"{user} needs the {package} package, which is missing here: pip install {package}")
