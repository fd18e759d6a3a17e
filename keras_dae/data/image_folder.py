"""Clean images from a folder, or real pairs from two folders: files are checked once, then read when needed."""

import hashlib
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from keras_dae._util.threads import map_ahead
from keras_dae.config import TrainConfig
from keras_dae.data.file_checks import CheckedFile, check_files
from keras_dae.data.hash_split import content_values, smallest_values
from keras_dae.data.pairs import Files
from keras_dae.data.patches import Images, PatchStream, count_patches
from keras_dae.data.splits import (
    MAX_HELD_OUT,
    SPLIT_SEED,
    TEST_FRACTION,
    DatasetSplits,
    ImageRecord,
    default_patch_size,
    held_out_patches,
    held_out_split,
)
from keras_dae.data.white import White, dataset_white
from keras_dae.errors import UserError, printable
from keras_dae.images.read import IMAGE_SUFFIXES, read_image
from keras_dae.images.unit_range import compact


class _Image(NamedTuple):
    """A usable image, or a pair: what is known of its files, clean and noisy."""

    files: Files
    checked: tuple[CheckedFile, ...]

    @property
    def size(self) -> tuple[int, int]:
        return self.checked[0].height, self.checked[0].width


def folder_dataset(
    config: TrainConfig, folders: Sequence[str], files: Sequence[Files], name: str, skipped: Sequence[str] = ()
) -> DatasetSplits:
    """Check image files, and divide them into training, validation and test images.

    Args:
        config: `TrainConfig`.
        folders: `(clean,)` or `(clean, noisy)`: the folders that the files are in.
        files: image files, as `(clean,)` or `(clean, noisy)`.
        name: name of the dataset.
        skipped: `path: reason` of files that were left out before.

    Raises:
        UserError: there are too few usable images.
    """
    images, unusable = _usable(folders, files, config.channels)
    white = dataset_white(config.white, (checked.depth for image in images for checked in image.checked), name)
    images, too_bright = _within_white(images, white)
    size = config.patch_size or default_patch_size([min(image.size) for image in images], config.grid)
    is_large_enough = np.array([min(image.size) >= size for image in images], bool)
    too_small = [
        f"{image.files[0]}: {image.size[0]}×{image.size[1]} pixels, smaller than the patch size {size}"
        for image in images
        if min(image.size) < size
    ]
    skipped = (*skipped, *unusable, *too_bright, *too_small)
    if skipped:
        print(f"skipped {len(skipped)} files:", *map(printable, skipped), sep="\n  ", file=sys.stderr)
    if is_large_enough.sum() < 3:
        raise UserError(
            f"expected at least 3 usable images in {name} (one each for training, validation and test), "
            f"got {is_large_enough.sum()} of {len(files)}"
            + (f"; the first problem: {skipped[0]}" if skipped else f"; looked for {', '.join(IMAGE_SUFFIXES)}")
        )

    # Divided before images over the limit are left out, so that none is for training with one limit, and for testing
    # with another. Images for testing that are more than MAX_HELD_OUT are not used: in a larger folder they may be.
    kept, test = _divide_for_testing(config, images, is_large_enough, name)
    kept, test = kept[: config.limit], test[:MAX_HELD_OUT][: config.limit]
    if len(kept) < 2 or not len(test):
        raise UserError(
            f"expected images of at least {size}×{size} pixels to train on and to test with in {name}, got {len(kept)} "
            f"and {len(test)}; give a smaller --patch-size"
        )
    train, validation = (kept[rows] for rows in _divide_for_validation(config, [images[int(row)] for row in kept]))

    def stream(rows: np.ndarray, scales: tuple[float, ...] = (1.0,)) -> PatchStream:
        sizes = [images[row].size for row in rows]
        counts = tuple(count_patches(height, width, size, config.patches_per_image) for height, width in sizes)
        return PatchStream(
            lambda index: _read_unchanged(images[rows[index]], config.channels, white), counts, size, scales
        )

    def list_images() -> list[ImageRecord]:
        split_of = {
            **dict.fromkeys(map(int, train), "train"),
            **dict.fromkeys(map(int, validation), "validation"),
            **dict.fromkeys(map(int, test), "test"),
        }
        return [
            ImageRecord(split_of.get(row, "unused"), *_described(image, folders)) for row, image in enumerate(images)
        ]

    return DatasetSplits(
        name,
        _sha256(config, images, white),
        stream(train, (1.0,) if config.has_pairs else config.scales),
        held_out_patches(stream(validation)),
        held_out_patches(stream(np.sort(test))),
        skipped,
        white.value if white.dtype == "uint16" else None,
        list_images,
    )


def _usable(folders: Sequence[str], files: Sequence[Files], channels: int) -> tuple[list[_Image], list[str]]:
    """Return the usable images, and `path: reason` of the others."""
    in_folders = [check_files(folder, column, channels) for folder, column in zip(folders, zip(*files))]
    images, unusable = [], []
    for image_files, checks in zip(files, zip(*in_folders)):
        reasons = [check for check in checks if isinstance(check, str)]
        checked = tuple(check for check in checks if isinstance(check, CheckedFile))
        sizes = [(check.height, check.width) for check in checked]
        if reasons:
            unusable.append(reasons[0])
        elif len(set(sizes)) > 1:
            unusable.append(f"{image_files[1]}: {sizes[1]} pixels, but {image_files[0]} has {sizes[0]}")
        else:
            images.append(_Image(image_files, checked))
    return images, unusable


def _within_white(images: list[_Image], white: White) -> tuple[list[_Image], list[str]]:
    """Return the images whose values do not exceed the white, and `path: reason` of the others."""
    kept, too_bright = [], []
    for image in images:
        values = [(checked.depth.maximum, white.of(checked.depth.dtype)) for checked in image.checked]
        if exceeding := [maximum for maximum, limit in values if limit is not None and maximum > limit]:
            too_bright.append(f"{image.files[0]}: values up to {exceeding[0]}, above the white {white.value}")
        else:
            kept.append(image)
    return kept, too_bright


def _divide_for_testing(
    config: TrainConfig, images: Sequence[_Image], is_large_enough: np.ndarray, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of large enough images `(kept, for testing)`; the second in the order in which they are used."""
    if config.split == "count":
        kept, test = held_out_split(len(images), TEST_FRACTION, SPLIT_SEED, MAX_HELD_OUT)
        return kept[is_large_enough[kept]], test[is_large_enough[test]]
    rows = np.flatnonzero(is_large_enough)
    values = content_values(_contents([images[int(row)] for row in rows]), "test")
    if (different := len(np.unique(values))) < len(values):
        print(
            f"{printable(name)}: {different:,} of {len(values):,} clean images are different; equal ones are never on "
            "both sides of a split",
            file=sys.stderr,
        )
    is_held_out = smallest_values(values, TEST_FRACTION, min_kept=2)
    order = np.argsort(values, kind="stable")
    return rows[~is_held_out], rows[order[is_held_out[order]]]


def _divide_for_validation(config: TrainConfig, images: Sequence[_Image]) -> tuple[np.ndarray, np.ndarray]:
    """Return the sorted rows `(for training, for validation)`."""
    if config.split == "count":
        return held_out_split(len(images), config.validation_split, config.seed, MAX_HELD_OUT)
    values = content_values(_contents(images), f"validation {config.seed}")
    is_held_out = smallest_values(values, config.validation_split, max_held_out=MAX_HELD_OUT)
    return np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)


def _contents(images: Sequence[_Image]) -> list[tuple[str, str]]:
    """Return by what clean images are equal: by their files' bytes, or by their pixels."""
    return [(image.checked[0].sha256, image.checked[0].pixels) for image in images]


def _described(image: _Image, folders: Sequence[str]) -> list[str]:
    """Return the fields of an `ImageRecord` after the first."""
    return [
        text
        for file, folder, checked in zip(image.files, folders, image.checked)
        for text in (file.relative_to(folder).as_posix(), checked.sha256, checked.pixels)
    ]


def _sha256(config: TrainConfig, images: Sequence[_Image], white: White) -> str:
    """Return a hash of all images in order: of the files' bytes, or of the pixels for the split by count."""
    sha256 = hashlib.sha256()
    if config.split == "hash":
        for image in images:
            sha256.update("".join(checked.sha256 for checked in image.checked).encode())
        return sha256.hexdigest()

    def digest(image: _Image) -> bytes:
        pixels = _read(image.files, config.channels, white)
        return hashlib.sha256(b"".join(one.tobytes() for one in pixels)).digest()

    with ThreadPoolExecutor() as readers:
        for one in map_ahead(readers, digest, images, ahead=16):
            sha256.update(one)
    return sha256.hexdigest()


def _read_unchanged(image: _Image, channels: int, white: White) -> Images:
    """Return what is in files that were checked before. Raises `UserError` if one of them has changed since."""
    for file, checked in zip(image.files, image.checked):
        with open(file, "rb") as content:
            if hashlib.file_digest(content, "sha256").hexdigest() != checked.sha256:
                raise UserError(f"{file} has changed since the training began; put the file back to continue")
    return _read(image.files, channels, white)


def _read(files: Files, channels: int, white: White) -> Images:
    images = (read_image(file, channels) for file in files)
    return tuple(compact(image, white.of(image.dtype)) for image in images)
