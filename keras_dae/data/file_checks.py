"""Image files checked for training: each is hashed and decoded once. The user's cache folder keeps what was found."""

import hashlib
import json
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
import platformdirs

from keras_dae import __version__
from keras_dae._util.atomic import atomic_file
from keras_dae._util.progress import ProgressBar
from keras_dae._util.threads import map_ahead
from keras_dae.data.white import Depth
from keras_dae.errors import UserError, first_line
from keras_dae.images.kinds import pages_of
from keras_dae.images.read import read_image

CACHE_FORMAT = 2  # increase it when other things are found in a file
MAX_ROUNDING = 1e-3  # of an 8-bit value that was stored as a float; less than 1 / 257, a step of 16 bits
# A file that changes twice within this time may have the same time stamp after both changes.
FINE_SECONDS, COARSE_SECONDS = 0.05, 2.0  # of a filesystem that counts less than milliseconds, and of any filesystem


class CheckedFile(NamedTuple):
    """What is known of a usable image file.

    Attributes:
        sha256: of the file's bytes, 64 hexadecimal digits.
        pixels: hash of the decoded image, see `pixel_hash`.
        height: in pixels.
        width: in pixels.
        depth: what the image uses of the range of its type.
    """

    sha256: str
    pixels: str
    height: int
    width: int
    depth: Depth


class _Stamp(NamedTuple):
    """What changes when a file is written or replaced, also by one of the same size."""

    size: int
    modified_ns: int
    changed_ns: int
    inode: int


def pixel_hash(image: np.ndarray) -> str:
    """Return a hash of an image's pixels, shape and type: 16 hexadecimal digits.

    An image of 8 bits keeps its hash when it is stored in 16 bits, or in floats of 32 bits or more.

    Example:
        >>> levels = np.arange(256, dtype=np.uint8)
        >>> pixel_hash(levels) == pixel_hash(levels * np.uint16(257)) == pixel_hash(levels / np.float32(255))
        True
    """
    image = _in_8_bits(image)
    sha256 = hashlib.sha256(f"{image.shape} {image.dtype.name}".encode())
    sha256.update(np.ascontiguousarray(image).data)
    return sha256.hexdigest()[:16]


def _in_8_bits(image: np.ndarray) -> np.ndarray:
    """Return an image as uint8 if that loses nothing but rounding, and else the image."""
    if image.dtype != np.uint16 and image.dtype.kind != "f":
        return image
    scaled = image * np.float32(1 / 257 if image.dtype == np.uint16 else 255)
    rounded = np.rint(scaled)
    return rounded.astype(np.uint8) if np.abs(scaled - rounded).max(initial=0) < MAX_ROUNDING else image


def check_files(folder: str | os.PathLike, files: Sequence[Path], channels: int) -> list[CheckedFile | str]:
    """Check image files, with a progress bar. Files that have not changed since the last check are not read.

    If the cache is damaged or cannot be written, a line on stderr says so.

    Args:
        folder: folder that the files are in, or in subfolders of it.
        files: the files.
        channels: as `read_image` takes it.

    Returns:
        For each file what was found, or `path: reason` if it is not usable.
    """
    cache = _cache_path(folder, channels)
    known = _read_cache(cache)
    keys = [str(file.relative_to(folder)) for file in files]
    stamps = [_stamp(file) for file in files]
    results: list[CheckedFile | str | None] = [
        known[key][1] if key in known and known[key][0] == stamp else None for key, stamp in zip(keys, stamps)
    ]
    found = {key: known[key] for key, result in zip(keys, results) if result}
    missing = [row for row, result in enumerate(results) if result is None]
    try:
        with ThreadPoolExecutor() as readers:
            checks = map_ahead(readers, lambda row: _check(files[row], stamps[row], channels), missing, ahead=16)
            bar = ProgressBar("checking images", len(missing), checks)
            for row, (result, is_lasting) in zip(missing, bar):
                results[row] = result
                stamp = stamps[row]
                if is_lasting and stamp and isinstance(result, CheckedFile):
                    found[keys[row]] = (stamp, result)
    finally:
        if found != known:
            _write_cache(cache, found)
    return [result for result in results if result is not None]


def _check(file: Path, stamp: _Stamp | None, channels: int) -> tuple[CheckedFile | str, bool]:
    """Return what was found in a file, and whether the stamp would differ if the file had other content."""
    is_lasting = stamp is not None and _wait_for_clock(stamp)
    try:
        with open(file, "rb") as content:
            sha256 = hashlib.file_digest(content, "sha256").hexdigest()
        image = read_image(file, channels)
        declared = next(pages_of(file.read_bytes())[1]).white if image.dtype == np.uint16 else None
    except Exception as error:  # noqa: BLE001 - decoders raise any exception; it is reported with the file's name
        return f"{file}: not a readable image ({first_line(error)})", False
    depth = Depth(image.dtype.name, image.max().item(), declared)
    checked = CheckedFile(sha256, pixel_hash(image), image.shape[0], image.shape[1], depth)
    return checked, is_lasting and _stamp(file) == stamp


def _stamp(file: Path) -> _Stamp | None:
    """Return a file's stamp; None if it is not there, which reading it will report."""
    try:
        status = os.stat(file)
    except OSError:
        return None
    return _Stamp(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def _wait_for_clock(stamp: _Stamp) -> bool:
    """Wait until a change of the file gives it another stamp; return whether that is sure.

    It is not if the file's time is in the future.
    """
    granularity = FINE_SECONDS if stamp.changed_ns % 10**6 else COARSE_SECONDS
    seconds = max(stamp.modified_ns, stamp.changed_ns) / 1e9 + granularity - time.time()
    if 0 < seconds <= granularity:
        time.sleep(seconds)
    return seconds <= granularity


def _cache_path(folder: str | os.PathLike, channels: int) -> Path:
    """Return the cache file of a folder. Another version of a decoder has another one."""
    versions = [__version__, *(version(package) for package in ("pillow", "tifffile"))]
    key = json.dumps([CACHE_FORMAT, versions, channels, os.path.realpath(folder)])
    name = f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"
    return Path(platformdirs.user_cache_dir("keras_dae"), "checked", name)


def _read_cache(path: Path) -> dict[str, tuple[_Stamp, CheckedFile]]:
    """Return what is known of the files of a folder, by their paths within it."""
    try:
        checksum, _, content = path.read_bytes().partition(b"\n")
        if hashlib.sha256(content).hexdigest().encode() != checksum:
            raise ValueError("its checksum is wrong")
        files = json.loads(content)
        return {
            key: (_Stamp(*stamp), CheckedFile(sha256, pixels, height, width, Depth(*depth)))
            for key, (stamp, (sha256, pixels, height, width, depth)) in files.items()
        }
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, TypeError) as error:
        print(f"cannot use the cache {path} ({first_line(error)}); the images are checked again", file=sys.stderr)
        return {}


def _write_cache(path: Path, files: dict[str, tuple[_Stamp, CheckedFile]]) -> None:
    content = json.dumps(files, separators=(",", ":")).encode()
    try:
        with atomic_file(path, lasting=False) as temporary:
            temporary.write_bytes(hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
    except UserError as error:
        print(f"the checks of the images are not cached: {error}", file=sys.stderr)
