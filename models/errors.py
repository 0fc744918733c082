"""Errors that a user can mend, as far as loading and converting a model can meet them."""


class UserError(Exception):
    """Bad input. The message is one sentence: the flag or file, what is wrong, what would be right."""


class SharedError(UserError):
    """A UserError that every rank raises with the same message, so only the first rank reports it."""
