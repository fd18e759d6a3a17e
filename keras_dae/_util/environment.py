"""Environment variables that are set while a block runs."""

import contextlib
import os
from collections.abc import Iterator


@contextlib.contextmanager
def environment(**values: str) -> Iterator[None]:
    """Set environment variables while the block runs; after it, they are as they were before.

    Example:
        >>> with environment(KERAS_DAE_EXAMPLE="1"):
        ...     os.environ["KERAS_DAE_EXAMPLE"]
        '1'
        >>> "KERAS_DAE_EXAMPLE" in os.environ
        False
    """
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def unchanged_environment() -> Iterator[None]:
    """Undo after the block what it changes in the environment. Some packages set variables while they are imported."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for variable in os.environ.keys() - before.keys():
            del os.environ[variable]
        os.environ.update(before)


def no_telemetry() -> contextlib.AbstractContextManager[None]:
    """Import onnxruntime in this block. Then it sends nothing to its maker, and writes no files about this machine.

    onnxruntime from 1.29 on would do both. It reads the variable once, while it is imported for the first time in a
    process, and keeps to it. (`onnxruntime.disable_telemetry_events` comes too late: the first event is sent, and the
    files are written, during the import.)

    Example:
        >>> with no_telemetry():
        ...     import onnxruntime
    """
    return environment(ORT_DISABLE_TELEMETRY="1")
