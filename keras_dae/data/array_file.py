"""Clean images from arrays: MNIST and its kin, and the user's .npz and .npy files."""

import hashlib

import numpy as np

from keras_dae._util.archives import UNREADABLE
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


def read_arrays(path, config):
    """Return `(images, None)`, or `(train, test)` where an .npz holds x_train and x_test."""
    try:
        with open(path, "rb") as file:
            arrays = load_arrays(file)
    except UNREADABLE as error:
        raise UserError(f"cannot read {path} as arrays of numbers: {first_line(error)}") from None
    if {"x_train", "x_test"} <= set(arrays):
        chosen = (arrays["x_train"], arrays["x_test"])
    elif "images" in arrays or len(arrays) == 1:
        chosen = (arrays.get("images", next(iter(arrays.values()))), None)
    else:
        raise UserError(
            f"expected {path} to hold `images`, or `x_train` and `x_test`; got {', '.join(arrays) or 'none'}"
        )
    return tuple(None if images is None else _checked(path, images, config.channels) for images in chosen)


def _checked(path, images, channels):
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[-1] != channels:
        raise UserError(f"expected images (count, height, width, {channels}) in {path}, got {images.shape}")
    try:
        return compact(images)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None


def array_dataset(config, name, train, test):
    """Split arrays. Images of one small size are used whole, larger or odd-sized ones in patches."""
    if test is not None and (not len(test) or test.shape[1:] != train.shape[1:]):
        raise UserError(
            f"expected test images in {name} of the training images' size {train.shape[1:]}, "
            f"got {len(test)} of {test.shape[1:]}"
        )
    sha256 = hashlib.sha256()
    for images in (train,) if test is None else (train, test):
        sha256.update(repr((images.shape, images.dtype.str)).encode())
        sha256.update(np.ascontiguousarray(images))
    height, width, _ = train.shape[1:]
    size = config.patch_size or default_patch_size([min(height, width)])
    if min(height, width) < size:
        raise UserError(f"expected images of at least {size}×{size} pixels in {name}, got {height}×{width}")
    is_whole = (height, width) == (size, size) or (config.patch_size is None and _whole(height, width))
    most = len(train) if is_whole else MAX_HELD_OUT
    if test is None:
        train_rows, test_rows = held_out_split(len(train), TEST_FRACTION, SPLIT_SEED, most)
        train, test = train[train_rows], train[test_rows]
    elif not is_whole and len(test) > most:
        test = test[np.linspace(0, len(test) - 1, most).astype(int)]
    train, test = train[: config.limit], test[: config.limit]
    train_rows, validation_rows = held_out_split(len(train), config.validation_split, config.seed, most)
    if is_whole:
        return DatasetSplits(
            name,
            sha256.hexdigest(),
            train[train_rows],
            EvaluationImages(train[validation_rows]),
            EvaluationImages(test),
        )

    count = count_patches(height, width, size, config.patches_per_image)
    stream = PatchStream(lambda row: (train[train_rows[row]],), (count,) * len(train_rows), size)
    held = [
        held_out_patches(PatchStream(lambda row, part=part: (part[row],), (count,) * len(part), size))
        for part in (train[validation_rows], test)
    ]
    return DatasetSplits(name, sha256.hexdigest(), stream, *held)


def _whole(height, width):
    multiple = AUTOENCODER.multiple
    return height % multiple == width % multiple == 0 and max(height, width) <= MAX_PATCH_SIZE
