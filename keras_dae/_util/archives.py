"""Zip archives and compressed files from strangers: what reading them raises, and a check before it."""

import struct
import tokenize
import zipfile
import zlib

# What NumPy, zip and gzip raise on a file that is missing, cut, of another kind, or larger than memory.
UNREADABLE = (
    *(OSError, EOFError, KeyError, ValueError, TypeError, OverflowError, SyntaxError),
    *(MemoryError, NotImplementedError, RuntimeError, struct.error),
    *(tokenize.TokenError, zipfile.BadZipFile, zlib.error),
)
BOMB_BYTES, BOMB_RATIO = 2**28, 200  # images and weights never shrink so much; hostile archives do


def check_archive(file):
    """Check a zip archive before anything of it is used: that it is no bomb, then all checksums.

    Args:
        file: path or binary file.

    Raises:
        ValueError: a member that would grow out of proportion, or whose content is not what was written.
        OSError, zipfile.BadZipFile, …: see UNREADABLE.
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
