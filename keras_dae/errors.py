"""Mistakes that the user can mend, and how the command lines report them."""

import sys


class UserError(Exception):
    """What was expected, what came and what to do, in one line; a command line prints it and exits with `status`."""

    status = 2


class CheckFailed(UserError):
    """The work itself is done, but its result failed a check."""

    status = 1


def run_command(command, *args, **kwargs):
    """Return the exit status of `command(*args, **kwargs)`: 0, that of a `UserError`, or 130 after Ctrl-C.

    The error becomes one line on stderr, without a traceback. Control characters in it (a file name may hold any)
    are shown escaped.
    """
    try:
        command(*args, **kwargs)
    except UserError as error:
        print(f"error: {printable(error)}", file=sys.stderr)
        return error.status
    except KeyboardInterrupt as interrupt:
        print(f"\ninterrupted{f': {interrupt}' if str(interrupt) else ''}", file=sys.stderr)
        return 130
    return 0


def first_line(error):
    """Return the first line of an exception's message that says something, or its type where none does."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def printable(value):
    """Return `str(value)` on one line: line breaks, control characters and lone surrogates escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in str(value))
