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
# A member of an archive that exceeds both limits is a decompression bomb: images and weights are not that compressible.
BOMB_BYTES = 2**28  # uncompressed
BOMB_RATIO = 200  # uncompressed to compressed


def check_archive(file: str | os.PathLike | IO[bytes]) -> None:
    """Check that no member of a zip archive is a decompression bomb, and then that all checksums are right.

    Args:
        file: path or binary file.

    Raises:
        ValueError: a member is a bomb, or its checksum is wrong.
        Exception: any of UNREADABLE, if it is not a readable archive.
    """
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            if member.file_size > max(BOMB_BYTES, BOMB_RATIO * member.compress_size):
                raise ValueError(
                    f"{member.filename} would grow from {member.compress_size:,} to {member.file_size:,} bytes: "
                    "refused as a decompression bomb"
                )
        if damaged := archive.testzip():
            raise ValueError(f"{damaged} is damaged: its checksum is wrong")
