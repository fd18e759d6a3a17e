"""NumPy's files, .npy and .npz, read with distrust: no pickles, no bombs, nothing damaged; and .npz written."""

import math
import zipfile

import numpy as np

from keras_dae._util.archives import check_archive

MAGIC = b"\x93NUMPY"


def load_arrays(file):
    """Return the arrays in a .npy or .npz file, name -> array; of a .npy, which has no names, `images`.

    Args:
        file: binary file that can seek, at its start. What it holds counts, not how it is called.

    Raises:
        ValueError, OSError, …: see `keras_dae._util.archives.UNREADABLE`.
    """
    magic = file.read(len(MAGIC))
    file.seek(0)
    if magic == MAGIC:
        return {"images": load_array(file, file.seek(0, 2))}
    check_archive(file)
    arrays = {}
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            with archive.open(member) as content:
                name = member.filename.removesuffix(".npy")
                if name in arrays:
                    raise ValueError(f"expected each name once, got {name} twice")
                arrays[name] = load_array(content, member.file_size)
    return arrays


def save_arrays(file, arrays):
    """Write arrays, name -> array, as a compressed .npz; unlike with `np.savez_compressed`, of any names."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as content:
                np.lib.format.write_array(content, array, allow_pickle=False)


def load_array(file, size):
    """Return the array in a .npy of `size` bytes; what its header promises is checked before memory is taken."""
    file.seek(0)
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
    file.seek(0)
    return np.lib.format.read_array(file, allow_pickle=False)
