"""Errors that a user can mend: those of models/, which all of the harness raises as well."""

from models.errors import SharedError, UserError

__all__ = ["SharedError", "UserError"]
