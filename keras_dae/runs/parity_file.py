"""parity.json of a run: the checksums of the exports that the parity check verified."""

import hashlib
import os
from pathlib import Path
from typing import Any

from keras_dae._util.json_files import read_json
from keras_dae.errors import UserError


def sha256_of(file: str | os.PathLike) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal."""
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()


def verified_checksums(entry: dict[str, Any]) -> tuple[str | None, str | None]:
    """Return the checksums that an entry of parity.json accepts: of the export, and of the one that it replaces.

    The second is there only while an export is replaced, or if the process was killed while it replaced it.
    """
    return entry.get("sha256"), entry.get("replaces_sha256")


def check_verified(file: Path) -> None:
    """Raise `UserError` if the parity.json beside a file has checksums of that file, and they are of another content.

    Without parity.json, or without an entry for the file, nothing is checked. An export may replace both at any moment.

    Example::

        check_verified(Path("saved_models/mnist/model.onnx"))
    """
    parity = file.with_name("parity.json")
    while parity.is_file():
        before = _identity(parity)
        entries = read_json(parity).values()
        entry = next((entry for entry in entries if isinstance(entry, dict) and entry.get("file") == file.name), None)
        if entry is None or sha256_of(file) in verified_checksums(entry):
            return
        if _identity(parity) == before:  # otherwise, the file may have been replaced since parity.json was read
            raise UserError(
                f"{file} is damaged, or is not the file that the parity check verified; export it again: "
                "python -m export"
            )


def _identity(path: Path) -> tuple[int, int]:
    """Return what changes whenever a file is replaced."""
    stat = path.stat()
    return stat.st_ino, stat.st_mtime_ns
