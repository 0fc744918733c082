"""Errors that a user can mend: those of models/, which all of the harness raises as well; and an end that is none."""

from models.errors import SharedError, UserError, did_you_mean

__all__ = ["LostRankError", "NothingDoneError", "SharedError", "Stopped", "Unfinished", "UserError", "did_you_mean"]


class NothingDoneError(SharedError):
    """A run came to its end, and everything in it failed."""


class LostRankError(UserError):
    """Another rank has ended before its work was done. said: whether it is left to another rank to say so."""

    def __init__(self, sentence: str, said: bool) -> None:
        super().__init__(sentence)
        self.said = said


class Unfinished(Exception):
    """A run ends before its work is done, as it was told to, on every rank; the same command goes on."""


GOES_ON = "the same command without --overwrite goes on where it stopped"


class Stopped(BaseException):
    """A signal of this number ends the run; like KeyboardInterrupt, no error that anybody handles."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number
