"""User errors, and how the commands report them."""

import contextlib
import os
import sys
from collections.abc import Callable
from typing import Any, TextIO


class UserError(Exception):
    """An error that the user can fix.

    The message is one line. It says what was expected, what was found instead, and what to do. A command prints it and
    exits with `status`.

    Example:
        >>> from keras_dae import TrainConfig, UserError
        >>> try:
        ...     TrainConfig(epochs=0)
        ... except UserError as error:
        ...     print(error)
        expected epochs to be at least 1, got 0
    """

    status = 2


class CheckFailed(UserError):
    """The work was done, but its result failed a check."""

    status = 1


class SomeFailed(UserError):
    """Some files could not be used. The work is done for all others."""

    status = 1


def run_command(command: Callable[..., Any], *args: Any, **kwargs: Any) -> int:
    """Call `command(*args, **kwargs)` and return the exit status: 0, the status of a `UserError`, or 130 after Ctrl-C.

    The error is printed as one line on stderr, without a traceback. Control characters in it are escaped, because a
    file name may contain them. If standard output cannot be written to, the status is 2. That is not an error if its
    reader has ended, as `head` does.
    """
    try:
        command(*args, **kwargs)
        sys.stdout.flush()
    except OSError as error:
        if not _is_broken(sys.stdout):
            raise
        if not isinstance(error, BrokenPipeError):
            print(f"error: cannot write to standard output: {error.strerror}", file=sys.stderr)
        return UserError.status
    except UserError as error:
        print(f"error: {printable(error)}", file=sys.stderr)
        return error.status
    except KeyboardInterrupt as interrupt:
        print(f"\ninterrupted{f': {interrupt}' if str(interrupt) else ''}", file=sys.stderr)
        return 130
    return 0


def _is_broken(stream: TextIO) -> bool:
    """Return whether a stream cannot write, not even a line break. If so, what is printed from now on is lost."""
    try:
        print(file=stream, flush=True)
    except OSError:
        # Python would print an error when it writes the rest at its end.
        with contextlib.suppress(OSError), open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())
        return True
    return False


def first_line(error: BaseException | str) -> str:
    """Return the first line of an error message that is not blank, or the type's name if there is none.

    Example:
        >>> first_line(ValueError("no such file\\nat line 7")), first_line(KeyError())
        ('no such file', 'KeyError')
    """
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def printable(value: object) -> str:
    """Return `str(value)` on one line: line breaks, control characters and lone surrogates are escaped.

    Example:
        >>> print(printable("two\\nlines"))
        two\\nlines
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in str(value))
