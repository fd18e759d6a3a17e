"""JSON files: written atomically, read with distrust."""

import contextlib
import json
from pathlib import Path

from keras_dae._util.atomic import atomic_file
from keras_dae.errors import UserError


def write_json(path, value):
    """Write `value` as indented JSON, whole or not at all. Raises `UserError` when it cannot be written."""
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, allow_nan=False, ensure_ascii=True) + "\n", encoding="utf-8")


def read_json(path):
    """Return the object in a JSON file. Raises `UserError` when it is missing, cut or not a JSON object."""
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"cannot read {path}: {error}") from None
    if not isinstance(value, dict):
        raise UserError(f"expected a JSON object in {path}, got {type(value).__name__}")
    return value


@contextlib.contextmanager
def expecting(path):
    """Turn what a block trips over in the content of a JSON file into a `UserError` that names the file."""
    try:
        yield
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        raise UserError(f"expected {path} as this package writes it, got another content: {error!r}") from None
