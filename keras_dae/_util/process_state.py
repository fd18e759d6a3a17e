"""State of the whole process that a library call must not change."""

import contextlib
import logging
import random
import sys
from collections.abc import Iterator

import numpy as np

from keras_dae._util.environment import unchanged_environment

LOGGERS = ("", "absl")  # the root of all loggers, and TensorFlow's


@contextlib.contextmanager
def unchanged_process_state() -> Iterator[None]:
    """Restore after the block what Keras and TensorFlow change in passing.

    - Random numbers of Python and NumPy: Keras draws one for each initializer without a seed, even if that is never
      used, and the import of TensorFlow draws some of NumPy's.
    - Logging: the first warning of TensorFlow adds a handler to the root of all loggers.
    - The environment: the import of tf2onnx, for one, lets TensorFlow hide its errors in all processes that this one
      starts.
    - Where modules are found: the import of onnxruntime.quantization adds a folder.

    Example:
        >>> random.seed(0)
        >>> with unchanged_process_state():
        ...     drawn = random.random()
        >>> random.random() == drawn
        True
    """
    of_python, path = random.getstate(), sys.path[:]
    of_numpy = np.random.get_state()  # noqa: NPY002 - of the caller's code
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [(logger, logger.level, logger.handlers[:]) for logger in loggers]
    try:
        with unchanged_environment():
            yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)  # noqa: NPY002
        sys.path[:] = path
        for logger, level, handlers in before:
            logger.setLevel(level)
            logger.handlers[:] = handlers
