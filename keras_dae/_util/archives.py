"""Zip archives and compressed files from untrusted sources: which errors reading raises, and a check before it."""

import os
import struct
import tokenize
import zipfile
import zlib
from typing import IO

# The errors that NumPy, zip and gzip raise for a file that is missing, damaged, of another kind, or larger than memory.
# Some of them are also what programming errors raise, so a `try` block that catches these should only read the file.
UNREADABLE = (
    *(OSError, EOFError, KeyError, ValueError, TypeError, OverflowError, SyntaxError),
    *(MemoryError, NotImplementedError, RuntimeError, struct.error),
    *(tokenize.TokenError, zipfile.BadZipFile, zlib.error),
)
# An archive that exceeds both limits is a decompression bomb: images and weights are not that compressible.
BOMB_BYTES = 2**25  # uncompressed, of all members together
BOMB_RATIO = 200  # all members, uncompressed, to the file


def check_archive(file: str | os.PathLike | IO[bytes]) -> None:
    """Check that a zip archive is no decompression bomb, and then that all checksums are right.

    Args:
        file: path or binary file.

    Raises:
        ValueError: the archive is a bomb, or a checksum is wrong.
        Exception: any of UNREADABLE, if it is not a readable archive.
    """
    with zipfile.ZipFile(file) as archive:
        check_expansion(archive)
        if damaged := archive.testzip():
            raise ValueError(f"{damaged} is damaged: its checksum is wrong")


def check_expansion(archive: zipfile.ZipFile) -> None:
    """Raise `ValueError` if a zip archive is a decompression bomb. Nothing is decompressed.

    The members are compared with the size of the file, because several members may share their compressed bytes.
    """
    expanded = sum(member.file_size for member in archive.infolist())
    size = archive.fp.seek(0, os.SEEK_END) if archive.fp else 0
    if expanded > max(BOMB_BYTES, BOMB_RATIO * size):
        raise ValueError(f"it would grow from {size:,} to {expanded:,} bytes: refused as a decompression bomb")
