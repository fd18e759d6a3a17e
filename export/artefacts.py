"""What an export consists of: the formats, their names in a run folder, and SavedModel's numbered versions."""

import os
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from keras_dae.errors import UserError

# Format -> its file or folder in a run folder.
ARTEFACT_NAMES = {
    "saved_model": "saved_model",
    "onnx": "model.onnx",
    "int8": "model.int8.onnx",
    "litert": "model.tflite",
}
EXPORT_FORMATS = tuple(ARTEFACT_NAMES)
DEFAULT_FORMATS = ("saved_model", "onnx", "int8")


def check_formats(formats: Iterable[str]) -> None:
    """Raise `UserError` if one of `formats` is not in EXPORT_FORMATS.

    Example:
        >>> check_formats(["onnx", "tflite"])
        Traceback (most recent call last):
        keras_dae.errors.UserError: expected formats of saved_model, onnx, int8, litert; got tflite
    """
    if unknown := [name for name in formats if name not in EXPORT_FORMATS]:
        raise UserError(f"expected formats of {', '.join(EXPORT_FORMATS)}; got {', '.join(unknown)}")


def check_installed(formats: Iterable[str]) -> None:
    """Raise `UserError` if one of `formats` is LiteRT and its package is missing."""
    if "litert" in formats and not find_spec("ai_edge_litert"):
        raise UserError("litert needs the package ai-edge-litert: pip install 'keras_dae[litert]'")


def newest_version(folder: str | os.PathLike) -> int:
    """Return the highest version in a SavedModel folder, TF Serving's `model_base_path`; 0 if there is none.

    Args:
        folder: its sub-folders are named 1, 2, and so on. It need not exist.
    """
    return max((int(path.name) for path in Path(folder).glob("*") if path.name.isdigit()), default=0)
