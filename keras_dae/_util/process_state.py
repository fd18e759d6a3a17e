"""State of the whole process that a library call must not change."""

import contextlib
import logging
import random
from collections.abc import Iterator

LOGGERS = ("", "absl")  # the root of all loggers, and TensorFlow's


@contextlib.contextmanager
def unchanged_process_state() -> Iterator[None]:
    """Restore after the block what Keras and TensorFlow change in passing: Python's random numbers, and logging.

    Keras draws a random number for each initializer without a seed, even if that is never used. The first warning of
    TensorFlow adds a handler to the root of all loggers.

    Example:
        >>> random.seed(0)
        >>> with unchanged_process_state():
        ...     drawn = random.random()
        >>> random.random() == drawn
        True
    """
    state = random.getstate()
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [(logger, logger.level, logger.handlers[:]) for logger in loggers]
    try:
        yield
    finally:
        random.setstate(state)
        for logger, level, handlers in before:
            logger.setLevel(level)
            logger.handlers[:] = handlers
