"""MNIST and Fashion-MNIST: found on disk in any of their packagings, or downloaded; always verified by content."""

import gzip
import hashlib
import os
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_dae._util.archives import UNREADABLE
from keras_dae.errors import UserError, first_line
from keras_dae.images.npy import load_arrays

BASE_URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"
CONNECT_SECONDS, READ_SECONDS = 15, 60
RETRIES = 3
SHAPES = {"train": (60_000, 28, 28), "t10k": (10_000, 28, 28)}


@dataclass(frozen=True)
class Source:
    """A data set's names in the wild, and what its content is known by.

    `downloads` are files below BASE_URL with their SHA-256. `checks` holds, for the train and t10k images, the
    SHA-256 of the uncompressed IDX file, or the sum and the sum of squares of all pixels, or None.
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
    # No checksum of the uncompressed files is published; the training images' mean (72.94035223214286) and
    # standard deviation (90.02118235130519) are, and give these sums. The downloads' own hashes are known.
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
    """The data set is neither on this machine nor can it be downloaded."""


def load_mnist(name, data_dir=None):
    """Return `(train, test)`: uint8 `(60000, 28, 28)` and `(10000, 28, 28)`, white on black.

    Looked for in `data_dir`, in the folder that KERAS_DAE_DATA names and in Keras's cache, in this order; else
    downloaded into the first of them that is given.

    Args:
        name: a key of SOURCES.
        data_dir: folder to look in first, or None.

    Raises:
        NotAvailable: not found and not downloadable.
        UserError: a file was found, but is cut or holds something else.
    """
    source = SOURCES[name]
    folders = [Path(folder) for folder in (data_dir, os.environ.get("KERAS_DAE_DATA"), keras_cache()) if folder]
    found = _find(source, folders) or _find(source, [_download(source, folders)])
    images = {}
    for part, path in found.items():
        try:
            images[part] = _read_npz(path, part) if path.suffix == ".npz" else _read_idx(path, part)
            _verify(images[part], source.checks[part])
        except UNREADABLE as error:
            raise UserError(
                f"{path} does not hold {source.title}'s {part} images: {first_line(error)}; delete or replace it and "
                "run again"
            ) from None
    return images["train"], images["t10k"]


def keras_cache():
    """Return the folder where Keras keeps downloaded data sets."""
    home = os.environ.get("KERAS_HOME")
    return (Path(home) if home else Path.home() / ".keras") / "datasets"


def _find(source, folders):
    """Return `{"train": path, "t10k": path}` of the first folder that has both, else None."""
    for folder in (Path(base, sub) for base in folders for sub in source.folders):
        npz = folder / source.npz
        if os.path.isfile(npz):
            return {"train": npz, "t10k": npz}
        found = {part: _idx_file(folder, part) for part in SHAPES}
        if all(found.values()):
            return found
    return None


def _idx_file(folder, part):
    names = [f"{part}-images{separator}idx3-ubyte{gz}" for separator in "-." for gz in ("", ".gz")]
    return next((folder / name for name in names if os.path.isfile(folder / name)), None)


def _read_npz(path, part):
    key = "x_train" if part == "train" else "x_test"
    with open(path, "rb") as file:
        images = load_arrays(file)[key]
    if images.shape != SHAPES[part] or images.dtype != np.uint8:
        raise ValueError(f"expected {key} uint8 {SHAPES[part]}, got {images.dtype} {images.shape}")
    return images


def _read_idx(path, part):
    """Read the IDX format (http://yann.lecun.com/exdb/mnist): four big-endian int32, then one byte a pixel."""
    expected = struct.pack(">4i", 0x803, *SHAPES[part])
    size = len(expected) + int(np.prod(SHAPES[part]))
    with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
        content = file.read(size + 1)  # never more, whatever the file claims to hold
    if content[:16] != expected:
        raise ValueError(f"expected an IDX file of {SHAPES[part]} bytes, got the header {content[:16].hex()}")
    if len(content) != size:
        raise ValueError(f"expected {size} bytes, got {'more' if len(content) > size else len(content)}")
    return np.frombuffer(content, np.uint8, offset=16).reshape(SHAPES[part])


def _verify(images, check):
    if isinstance(check, str):
        idx = struct.pack(">4i", 0x803, *images.shape) + images.tobytes()
        got = hashlib.sha256(idx).hexdigest()
    elif check:
        histogram = np.bincount(images.reshape(-1), minlength=256)
        got = (int(histogram @ np.arange(256)), int(histogram @ np.arange(256) ** 2))
    else:
        return
    if got != check:
        raise ValueError(f"expected the content with checksum {check}, got {got}")


def _download(source, folders):
    """Download into the first of `folders` what is needed, each file whole or not at all, and return that folder."""
    import pooch  # only here: it takes a while to import
    import requests

    timeout = (CONNECT_SECONDS, READ_SECONDS)
    try:
        # One quick question first: without a network the answer must not wait for the retries of the transfer.
        requests.head(BASE_URL + next(iter(source.downloads)), timeout=timeout).raise_for_status()
        files = pooch.create(folders[0], BASE_URL, registry=source.downloads, retry_if_failed=RETRIES)
        for name in source.downloads:
            files.fetch(name, downloader=pooch.HTTPDownloader(progressbar=True, timeout=timeout))
    except (OSError, ValueError) as error:  # requests' errors are OSErrors; a wrong hash is a ValueError
        raise NotAvailable(
            f"{source.title} is not in {', '.join(map(str, folders))} and could not be downloaded from {BASE_URL} "
            f"({_short(error)}); put {source.npz} or the IDX files into a folder and give --data-dir, "
            "or train on the built-in digits with --dataset digits"
        ) from None
    return folders[0]


def _short(error):
    """Return the innermost reason of a chain of network errors."""
    while isinstance(getattr(error, "reason", None) or (error.args[0] if error.args else None), Exception):
        error = getattr(error, "reason", None) or error.args[0]
    return first_line(error)
