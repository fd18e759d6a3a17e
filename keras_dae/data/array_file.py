"""Clean images from arrays: MNIST and similar data sets, and the user's .npz and .npy files."""

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_dae._util.archives import UNREADABLE
from keras_dae.config import TrainConfig
from keras_dae.data.file_checks import pixel_hash
from keras_dae.data.patches import PatchStream, count_patches
from keras_dae.data.splits import (
    MAX_HELD_OUT,
    MAX_PATCH_SIZE,
    SPLIT_SEED,
    TEST_FRACTION,
    DatasetSplits,
    EvaluationImages,
    ImageRecord,
    default_patch_size,
    held_out_patches,
    held_out_split,
)
from keras_dae.data.white import Depth, White, dataset_white
from keras_dae.errors import UserError, first_line, printable
from keras_dae.images.npy import load_arrays
from keras_dae.images.unit_range import compact


def read_arrays(path: Path, config: TrainConfig) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the images in a .npy or .npz file: `(images, None)`, or `(train, test)` if it has x_train and x_test.

    Each array is `(n, height, width, config.channels)`, uint8 in 0 … 255, uint16 or float32 in [0, 1].

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
        native = images.astype(images.dtype.newbyteorder("="), copy=False)
        return native if native.dtype == np.uint16 else compact(native)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None


def array_dataset(config: TrainConfig, name: str, train: np.ndarray, test: np.ndarray | None) -> DatasetSplits:
    """Divide arrays of images into training, validation and test images.

    Small images of a size that the network takes are used whole; others are cut into patches.

    Args:
        config: `TrainConfig`.
        name: name of the dataset.
        train: images `(n, height, width, channels)`, uint8 in 0 … 255, uint16 or float32 in [0, 1].
        test: test images in the same form; None to hold some of `train` out for testing.

    Raises:
        UserError: there are too few images, they are too small, their values exceed the white, or test images have
            another size.
    """
    if test is not None and (not len(test) or test.shape[1:] != train.shape[1:]):
        raise UserError(
            f"expected test images in {name} of the training images' size {train.shape[1:]}, "
            f"got {len(test)} of {test.shape[1:]}"
        )
    hashes = [_row_hashes(images) for images in (train, test) if images is not None]
    if (different := len(set(hashes[0]))) < (needed := 2 if test is not None else 3):
        raise UserError(
            f"expected at least {needed} different images in {name} (one each for training, validation"
            f"{'' if test is not None else ' and test'}), got {different} among {len(train)}"
        )
    white, train, test = _scaled(config, name, train, test)
    sha256 = _sha256(train, test)
    height, width = train.shape[1:3]
    patch_size = _patch_size(config, name, height, width)
    max_held_out = None if patch_size is None else MAX_HELD_OUT
    if test is None:
        kept, test_rows = held_out_split(len(train), TEST_FRACTION, SPLIT_SEED, max_held_out)
        test, test_hashes = train, hashes[0]
        kept = _without(kept, test_rows, hashes[0], name)
    else:
        kept, test_rows = np.arange(len(train)), _spread(len(test), max_held_out)
        test_hashes = hashes[1]
        if equal := sum(map(set(hashes[0]).__contains__, hashes[1])):
            print(
                f"{printable(name)}: {equal:,} of {len(test):,} test images are training images, too", file=sys.stderr
            )
    kept, test_rows = kept[: config.limit], test_rows[: config.limit]
    train_rows, validation_rows = (
        kept[rows] for rows in held_out_split(len(kept), config.validation_split, config.seed, max_held_out)
    )
    train_rows = _without(train_rows, validation_rows, hashes[0], name)

    def list_images() -> list[ImageRecord]:
        splits = (("train", train_rows, hashes[0]), ("validation", validation_rows, hashes[0]))
        return [
            ImageRecord(split, str(row), "", of_row[row])
            for split, rows, of_row in (*splits, ("test", test_rows, test_hashes))
            for row in map(int, rows)
        ]

    about: dict[str, Any] = {"white": white.value if white.dtype == "uint16" else None, "list_images": list_images}
    if patch_size is None:
        validation = EvaluationImages(train[validation_rows])
        return DatasetSplits(name, sha256, train[train_rows], validation, EvaluationImages(test[test_rows]), **about)
    patches = count_patches(height, width, patch_size, config.patches_per_image)

    def stream(images: np.ndarray, rows: np.ndarray, scales: tuple[float, ...] = (1.0,)) -> PatchStream:
        return PatchStream(lambda index: (images[rows[index]],), (patches,) * len(rows), patch_size, scales)

    return DatasetSplits(
        name,
        sha256,
        stream(train, train_rows, config.scales),
        held_out_patches(stream(train, validation_rows)),
        held_out_patches(stream(test, test_rows)),
        **about,
    )


def _scaled(
    config: TrainConfig, name: str, train: np.ndarray, test: np.ndarray | None
) -> tuple[White, np.ndarray, np.ndarray | None]:
    """Return the white of all images, and the images as uint8 or as float32 in [0, 1]."""
    arrays = [images for images in (train, test) if images is not None]
    depths = [Depth(images.dtype.name, images.max(initial=0).item()) for images in arrays]
    white = dataset_white(config.white, depths, name)
    try:
        scaled = [compact(images, white.of(images.dtype.name)) for images in arrays]
    except ValueError as error:
        raise UserError(f"{name}: {error}") from None
    return white, scaled[0], scaled[1] if test is not None else None


def _row_hashes(images: np.ndarray) -> list[str]:
    return [pixel_hash(image) for image in images]


def _sha256(train: np.ndarray, test: np.ndarray | None) -> str:
    sha256 = hashlib.sha256()
    for images in (train,) if test is None else (train, test):
        sha256.update(repr((images.shape, images.dtype.str)).encode())
        sha256.update(np.ascontiguousarray(images).data)
    return sha256.hexdigest()


def _patch_size(config: TrainConfig, name: str, height: int, width: int) -> int | None:
    """Return the patch size for images of this size, all in pixels; None to use them whole."""
    size = config.patch_size or default_patch_size([min(height, width)], config.grid)
    if min(height, width) < size:
        raise UserError(f"expected images of at least {size}×{size} pixels in {name}, got {height}×{width}")
    if (height, width) == (size, size):
        return None
    fits = height % config.grid.multiple == width % config.grid.multiple == 0
    return None if config.patch_size is None and fits and max(height, width) <= MAX_PATCH_SIZE else size


def _without(rows: np.ndarray, held_out: np.ndarray, hashes: Sequence[str], name: str) -> np.ndarray:
    """Return the rows of images that are not equal to one that is held out; say how many others there are."""
    held = {hashes[row] for row in held_out}
    kept = rows[np.array([hashes[row] not in held for row in rows], bool)]
    if not len(kept):
        raise UserError(
            f"expected training images in {name} that differ from the {len(held_out):,} that are held out, got "
            f"{len(rows):,} that are equal to one of them; remove duplicates"
        )
    if left_out := len(rows) - len(kept):
        print(
            f"{printable(name)}: {left_out:,} of {len(rows):,} images are not trained on: equal ones are held out",
            file=sys.stderr,
        )
    return kept


def _spread(count: int, max_rows: int | None) -> np.ndarray:
    """Return all rows, or `max_rows` of them from everywhere."""
    return np.arange(count) if not max_rows or count <= max_rows else np.linspace(0, count - 1, max_rows).astype(int)
