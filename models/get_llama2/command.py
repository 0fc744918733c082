"""The end of this folder's commands, which run from a clone and from the installed package, without the harness."""

import sys
from collections.abc import Callable

from ..errors import UserError

USER_ERROR_STATUS = 2
INTERRUPTED_STATUS = 130


def run_command(main: Callable[[], None]) -> None:
    """Run `main`; a UserError becomes one line on stderr and exit status 2, never a traceback.

    Ctrl-C ends with status 130. Where the terminal cannot show a character, its code is printed instead.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")
    try:
        main()
    except UserError as error:
        _leave(str(error), USER_ERROR_STATUS)
    except KeyboardInterrupt:
        _leave("interrupted", INTERRUPTED_STATUS)


def _leave(sentence: str, status: int) -> None:
    print(f"error: {sentence}", file=sys.stderr, flush=True)
    sys.exit(status)
