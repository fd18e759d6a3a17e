"""NumPy's files, .npy and .npz: read without trust in their content (no pickles, no bombs), and .npz files written."""

import math
import zipfile
from collections.abc import Iterable, Iterator
from typing import IO

import numpy as np

from keras_dae._util.archives import check_expansion

MAGIC = b"\x93NUMPY"  # the first bytes of a .npy file


def load_arrays(file: IO[bytes]) -> dict[str, np.ndarray]:
    """Return the arrays in a .npy or .npz file: name -> array. The array of a .npy file is called `images`.

    Args:
        file: seekable binary file, at its start. Its content decides what it is, not its name.

    Raises:
        ValueError: the file is damaged, or holds something else than numbers.
        Exception: others, see `keras_dae._util.archives.UNREADABLE`.
    """
    magic = file.read(len(MAGIC))
    file.seek(0)
    if magic == MAGIC:
        size = file.seek(0, 2)
        file.seek(0)
        check_header(file, size)
        file.seek(0)
        return {"images": np.lib.format.read_array(file, allow_pickle=False)}
    return dict(iterate_arrays(file))


def iterate_arrays(file: IO[bytes]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the arrays in an .npz file, `(name, array)`, one at a time.

    Args:
        file: seekable binary file.

    Raises:
        ValueError: the file is damaged or a decompression bomb, holds a name twice, or something else than numbers.
        Exception: others, see `keras_dae._util.archives.UNREADABLE`.
    """
    with zipfile.ZipFile(file) as archive:
        check_expansion(archive)
        names = set()
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            if name in names:
                raise ValueError(f"expected each name once, got {name} twice")
            names.add(name)
            with archive.open(member) as content:
                check_header(content, member.file_size)
            with archive.open(member) as content:  # without a seek, so that the checksum is checked at the end
                array = np.lib.format.read_array(content, allow_pickle=False)
            yield name, array


def save_arrays(file: IO[bytes], arrays: Iterable[tuple[str, np.ndarray]]) -> None:
    """Write arrays, `(name, array)`, as a compressed .npz file. Unlike `np.savez_compressed`, it takes any names."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays:
            with archive.open(f"{name}.npy", "w", force_zip64=True) as content:
                np.lib.format.write_array(content, array, allow_pickle=False)


def check_header(file: IO[bytes], size: int) -> None:
    """Check the header of a .npy file of `size` bytes, before memory is allocated for its array.

    Raises:
        ValueError: the header does not fit the size, or the array holds Python objects.
    """
    version = np.lib.format.read_magic(file)
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in read_header:
        raise ValueError(f"expected version 1 or 2 of the .npy format, got {version[0]}.{version[1]}")
    shape, _, dtype = read_header[version](file)
    expected, got = math.prod(shape) * dtype.itemsize, size - file.tell()
    if dtype.hasobject:
        raise ValueError("expected numbers, got pickled objects, which are never loaded")
    if expected != got:
        raise ValueError(f"expected {expected:,} bytes for {dtype} {shape}, got {got:,}")
