"""Clean images from arrays: MNIST and similar data sets, and the user's .npz and .npy files."""

import hashlib
from pathlib import Path

import numpy as np

from keras_dae._util.archives import UNREADABLE
from keras_dae.config import TrainConfig
from keras_dae.data.patches import PatchStream, count_patches
from keras_dae.data.splits import (
    MAX_HELD_OUT,
    MAX_PATCH_SIZE,
    SPLIT_SEED,
    TEST_FRACTION,
    DatasetSplits,
    EvaluationImages,
    default_patch_size,
    held_out_patches,
    held_out_split,
)
from keras_dae.errors import UserError, first_line
from keras_dae.images.npy import load_arrays
from keras_dae.images.unit_range import compact
from keras_dae.networks.geometry import AUTOENCODER


def read_arrays(path: Path, config: TrainConfig) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the images in a .npy or .npz file: `(images, None)`, or `(train, test)` if it has x_train and x_test.

    Each array is `(n, height, width, config.channels)`, uint8 in 0 … 255 or float32 in [0, 1].

    Raises:
        UserError: the file cannot be read, or holds other arrays than these.
    """
    try:
        with open(path, "rb") as file:
            arrays = load_arrays(file)
    except UNREADABLE as error:
        raise UserError(f"cannot read {path} as arrays of numbers: {first_line(error)}") from None
    if {"x_train", "x_test"} <= set(arrays):
        train = _checked(path, arrays["x_train"], config.channels)
        return train, _checked(path, arrays["x_test"], config.channels)
    if "images" in arrays or len(arrays) == 1:
        images = arrays["images"] if "images" in arrays else next(iter(arrays.values()))
        return _checked(path, images, config.channels), None
    raise UserError(f"expected {path} to hold `images`, or `x_train` and `x_test`; got {', '.join(arrays) or 'none'}")


def _checked(path: Path, images: np.ndarray, channels: int) -> np.ndarray:
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[-1] != channels:
        raise UserError(f"expected images (count, height, width, {channels}) in {path}, got {images.shape}")
    try:
        return compact(images)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None


def array_dataset(config: TrainConfig, name: str, train: np.ndarray, test: np.ndarray | None) -> DatasetSplits:
    """Divide arrays of images into training, validation and test images.

    Small images of a size that the network takes are used whole; others are cut into patches.

    Args:
        config: `TrainConfig`.
        name: name of the dataset.
        train: images `(n, height, width, channels)`, uint8 in 0 … 255 or float32 in [0, 1].
        test: test images in the same form; None to hold some of `train` out for testing.

    Raises:
        UserError: there are too few images, they are too small, or test images have another size.
    """
    if test is not None and (not len(test) or test.shape[1:] != train.shape[1:]):
        raise UserError(
            f"expected test images in {name} of the training images' size {train.shape[1:]}, "
            f"got {len(test)} of {test.shape[1:]}"
        )
    sha256 = _sha256(train, test)
    height, width = train.shape[1:3]
    patch_size = _patch_size(config, name, height, width)
    max_held_out = None if patch_size is None else MAX_HELD_OUT
    train, test = _with_test_images(train, test, max_held_out)
    train, test = train[: config.limit], test[: config.limit]
    train_rows, validation_rows = held_out_split(len(train), config.validation_split, config.seed, max_held_out)
    if patch_size is None:
        validation = EvaluationImages(train[validation_rows])
        return DatasetSplits(name, sha256, train[train_rows], validation, EvaluationImages(test))
    patches = count_patches(height, width, patch_size, config.patches_per_image)

    def stream(images: np.ndarray, rows: np.ndarray) -> PatchStream:
        return PatchStream(lambda index: (images[rows[index]],), (patches,) * len(rows), patch_size)

    return DatasetSplits(
        name,
        sha256,
        stream(train, train_rows),
        held_out_patches(stream(train, validation_rows)),
        held_out_patches(stream(test, np.arange(len(test)))),
    )


def _sha256(train: np.ndarray, test: np.ndarray | None) -> str:
    sha256 = hashlib.sha256()
    for images in (train,) if test is None else (train, test):
        sha256.update(repr((images.shape, images.dtype.str)).encode())
        sha256.update(np.ascontiguousarray(images).data)
    return sha256.hexdigest()


def _patch_size(config: TrainConfig, name: str, height: int, width: int) -> int | None:
    """Return the patch size for images of this size, all in pixels; None to use them whole."""
    size = config.patch_size or default_patch_size([min(height, width)])
    if min(height, width) < size:
        raise UserError(f"expected images of at least {size}×{size} pixels in {name}, got {height}×{width}")
    if (height, width) == (size, size):
        return None
    fits = height % AUTOENCODER.multiple == width % AUTOENCODER.multiple == 0
    return None if config.patch_size is None and fits and max(height, width) <= MAX_PATCH_SIZE else size


def _with_test_images(
    train: np.ndarray, test: np.ndarray | None, max_held_out: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return training and test images; hold test images out if there are none, or reduce them to `max_held_out`."""
    if test is None:
        train_rows, test_rows = held_out_split(len(train), TEST_FRACTION, SPLIT_SEED, max_held_out)
        return train[train_rows], train[test_rows]
    if max_held_out and len(test) > max_held_out:
        test = test[np.linspace(0, len(test) - 1, max_held_out).astype(int)]
    return train, test
