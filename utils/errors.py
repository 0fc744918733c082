"""Errors that a user can mend, and how a script reports them."""

import sys
from collections.abc import Callable


class UserError(Exception):
    """Bad input. The message is one sentence: the flag or file, what is wrong, what would be right."""


def run_main(main: Callable[[], None]) -> None:
    """Run a script's `main`; a UserError becomes one line on stderr and exit status 2, never a traceback."""
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
