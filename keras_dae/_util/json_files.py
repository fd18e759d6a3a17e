"""JSON files: written atomically, and checked when they are read."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keras_dae._util.atomic import atomic_file
from keras_dae.errors import UserError


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Write a value atomically as indented JSON.

    Raises:
        UserError: the file cannot be written.
        ValueError: the value contains NaN or infinity, which JSON does not have.
    """
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, allow_nan=False, ensure_ascii=True) + "\n", encoding="utf-8")


def read_json(path: str | os.PathLike) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        UserError: the file is missing, is not valid JSON, or holds something else than an object.
    """
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"cannot read {path}: {error}") from None
    if not isinstance(value, dict):
        raise UserError(f"expected a JSON object in {path}, got {type(value).__name__}")
    return value


@contextlib.contextmanager
def expecting(path: str | os.PathLike) -> Iterator[None]:
    """Turn the errors that unexpected content of a JSON file causes in the block into `UserError`.

    The block should only read the content: an error with another cause would be reported in the same way.

    Args:
        path: the file, for the message.
    """
    try:
        yield
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        raise UserError(f"expected {path} as this package writes it, got other content: {error!r}") from None
