"""MNIST and Fashion-MNIST: read from any of their file formats, or downloaded. MNIST's content is always verified.

`keras.datasets` would not do: it imports a backend first, waits for the network without a time limit, verifies nothing
of Fashion-MNIST, and knows only its own cache.
"""

import gzip
import hashlib
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_dae._util.archives import UNREADABLE
from keras_dae.errors import UserError, first_line
from keras_dae.images.npy import load_arrays

BASE_URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"
CONNECT_SECONDS, READ_SECONDS = 15, 60  # timeouts of a download
RETRIES = 3
SHAPES = {"train": (60_000, 28, 28), "t10k": (10_000, 28, 28)}


@dataclass(frozen=True)
class Source:
    """Where a dataset is found, and how its content is verified.

    Attributes:
        title: name of the dataset in messages.
        folders: folders to look in, below each base folder.
        npz: name of the .npz file that Keras downloads.
        downloads: path below BASE_URL -> SHA-256 of the file.
        checks: for the images of each subset, `train` and `t10k`: the SHA-256 of the uncompressed IDX file; or the sum
            and the sum of squares of all pixels; or None if nothing is known.
    """

    title: str
    folders: tuple[str, ...]
    npz: str
    downloads: dict[str, str]
    checks: dict[str, str | tuple[int, int] | None]


SOURCES = {
    "mnist": Source(
        title="MNIST",
        folders=("", "mnist", "MNIST/raw", "MNIST"),
        npz="mnist.npz",
        downloads={"mnist.npz": "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"},
        checks={
            "train": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "t10k": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        },
    ),
    # No checksum of the uncompressed files is published. The mean (72.94035223214286) and the standard deviation
    # (90.02118235130519) of the training images are published, and give these sums.
    "fashion_mnist": Source(
        title="Fashion-MNIST",
        folders=("fashion-mnist", "fashion_mnist", "FashionMNIST/raw", "FashionMNIST", ""),
        npz="fashion_mnist.npz",
        downloads={
            "fashion-mnist/train-images-idx3-ubyte.gz": (
                "08dc20ab1689590a0bcd66e874647b6ee8464e2d501b5a3f1f78831db19a3fdc"
            ),
            "fashion-mnist/t10k-images-idx3-ubyte.gz": (
                "78dcbbfb5a27efaf1b6c1d616caca68560be8766c5bffcb2791df9273a534229"
            ),
        },
        checks={"train": (3_431_114_169, 631_470_052_347), "t10k": None},
    ),
}


class NotAvailable(UserError):
    """The dataset is not on this machine and cannot be downloaded."""


def load_mnist(name: str, data_dir: str | os.PathLike | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return `(train, test)`: uint8 `(60000, 28, 28)` and `(10000, 28, 28)` in 0 … 255, white on black.

    The files are looked for in `data_dir`, in the folder that the environment variable KERAS_DAE_DATA names, and in
    Keras's cache, in this order. If they are in none of these, they are downloaded into the first one that is given.

    Args:
        name: a key of SOURCES.
        data_dir: folder to look in first, or None.

    Raises:
        NotAvailable: the files were not found and cannot be downloaded.
        UserError: a file was found, but is damaged or holds something else.
    """
    source = SOURCES[name]
    folders = [Path(folder) for folder in (data_dir, os.environ.get("KERAS_DAE_DATA"), keras_cache()) if folder]
    files = _find_files(source, folders) or _find_files(source, [_download(source, folders)])
    images: dict[str, np.ndarray] = {}
    arrays: dict[str, np.ndarray] = {}
    for subset, path in files.items():
        try:
            if path.suffix == ".npz":  # one file with both
                arrays = arrays or _read_npz(path)
                images[subset] = _of_subset(arrays, subset)
            else:
                images[subset] = _read_idx(path, subset)
            _verify(images[subset], source.checks[subset])
        except UNREADABLE as error:
            raise UserError(
                f"{path} does not hold {source.title}'s {subset} images: {first_line(error)}; delete or replace it and "
                "run again"
            ) from None
    return images["train"], images["t10k"]


def keras_cache() -> Path:
    """Return the folder where Keras keeps downloaded data sets."""
    home = os.environ.get("KERAS_HOME")
    return (Path(home) if home else Path.home() / ".keras") / "datasets"


def _find_files(source: Source, folders: list[Path]) -> dict[str, Path]:
    """Return the files of the first folder that has both subsets: subset -> path; empty if there is none."""
    for folder in (Path(base, sub) for base in folders for sub in source.folders):
        npz = folder / source.npz
        if os.path.isfile(npz):
            return {"train": npz, "t10k": npz}
        files = {subset: path for subset in SHAPES if (path := _idx_file(folder, subset))}
        if len(files) == len(SHAPES):
            return files
    return {}


def _idx_file(folder: Path, subset: str) -> Path | None:
    names = [f"{subset}-images{separator}idx3-ubyte{gz}" for separator in "-." for gz in ("", ".gz")]
    return next((folder / name for name in names if os.path.isfile(folder / name)), None)


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    with open(path, "rb") as file:
        return load_arrays(file)


def _of_subset(arrays: dict[str, np.ndarray], subset: str) -> np.ndarray:
    key = "x_train" if subset == "train" else "x_test"
    images = arrays[key]
    if images.shape != SHAPES[subset] or images.dtype != np.uint8:
        raise ValueError(f"expected {key} uint8 {SHAPES[subset]}, got {images.dtype} {images.shape}")
    return images


def _read_idx(path: Path, subset: str) -> np.ndarray:
    """Read the IDX format (http://yann.lecun.com/exdb/mnist): four big-endian int32, then one byte per pixel."""
    expected = struct.pack(">4i", 0x803, *SHAPES[subset])
    size = len(expected) + int(np.prod(SHAPES[subset]))
    with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
        content = file.read(size + 1)  # a hostile file may decompress to far more
    if content[:16] != expected:
        raise ValueError(f"expected an IDX file of {SHAPES[subset]} bytes, got the header {content[:16].hex()}")
    if len(content) != size:
        raise ValueError(f"expected {size} bytes, got {'more' if len(content) > size else len(content)}")
    return np.frombuffer(content, np.uint8, offset=16).reshape(SHAPES[subset])


def _verify(images: np.ndarray, check: str | tuple[int, int] | None) -> None:
    """Raise `ValueError` unless the images have the checksum of `Source.checks`."""
    if isinstance(check, str):
        idx = struct.pack(">4i", 0x803, *images.shape) + images.tobytes()
        got: str | tuple[int, int] = hashlib.sha256(idx).hexdigest()
    elif check:
        histogram = np.bincount(images.reshape(-1), minlength=256)
        got = (int(histogram @ np.arange(256)), int(histogram @ np.arange(256) ** 2))
    else:
        return
    if got != check:
        raise ValueError(f"expected the content with checksum {check}, got {got}")


def _download(source: Source, folders: list[Path]) -> Path:
    """Download the files into the first of `folders`, each atomically, and return that folder."""
    import pooch  # slow to import, and seldom needed
    import requests

    timeout = (CONNECT_SECONDS, READ_SECONDS)
    try:
        # One quick request first. Without a network it fails at once, while the downloads below would be tried again.
        requests.head(BASE_URL + next(iter(source.downloads)), timeout=timeout).raise_for_status()
        files = pooch.create(folders[0], BASE_URL, registry=source.downloads, retry_if_failed=RETRIES)
        downloader: Any = pooch.HTTPDownloader(progressbar=True, timeout=timeout)
        for name in source.downloads:
            files.fetch(name, downloader=downloader)
    except (OSError, ValueError) as error:  # requests raises OSErrors; pooch raises ValueError for a wrong hash
        raise NotAvailable(
            f"{source.title} is not in {', '.join(map(str, folders))} and could not be downloaded from {BASE_URL} "
            f"({_innermost_reason(error)}); put {source.npz} or the IDX files into a folder and give --data-dir, "
            "or train on the built-in digits with --dataset digits"
        ) from None
    return folders[0]


def _innermost_reason(error: Any) -> str:
    """Return the message of the innermost of a chain of network errors."""
    while isinstance(getattr(error, "reason", None) or (error.args[0] if error.args else None), Exception):
        error = getattr(error, "reason", None) or error.args[0]
    return first_line(error)
