"""TensorFlow's errors while it trains or measures, as one line each."""

import contextlib
import re
from collections.abc import Iterator

import tensorflow as tf

from keras_dae.errors import UserError, first_line

KEPT = "finished epochs are kept"


@contextlib.contextmanager
def in_one_line() -> Iterator[None]:
    """Turn every error that TensorFlow raises in the block into a `UserError` of one line.

    An exception in Python code that tf.data runs, such as that of a missing image file, reaches the caller as an error
    of TensorFlow: a ValueError as InvalidArgumentError, a MemoryError as ResourceExhaustedError, others as
    UnknownError.
    """
    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        raise UserError(
            f"training stopped, {KEPT}: the memory is not enough ({_reason(error)}); free memory and give the same "
            "command again, or start anew with a smaller --batch-size or --patch-size"
        ) from error
    except tf.errors.OpError as error:
        raise UserError(f"training stopped, {KEPT}: {_reason(error)}") from error


def _reason(error: tf.errors.OpError) -> str:
    """Return the line that says what happened: that of the Python exception, if there was one."""
    raised = re.search(r"(\w+Error|\w+Exception): .*", error.message)
    return (raised[0] if raised else first_line(error.message)).removeprefix("UserError: ")
