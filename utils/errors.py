"""Errors that a user can mend: those of models/, which all of the harness raises as well; and an end that is none."""

from models.errors import SharedError, UserError

__all__ = ["SharedError", "Unfinished", "UserError"]


class Unfinished(Exception):
    """A run ends before its work is done, as it was told to, on every rank; the same command goes on."""
