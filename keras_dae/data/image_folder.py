"""Clean images from a folder, or real pairs from two folders: files are checked once, then read when needed."""

import hashlib
import os
import sys
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from keras_dae._util.threads import map_ahead
from keras_dae.config import TrainConfig
from keras_dae.data.patches import Images, PatchStream, count_patches
from keras_dae.data.splits import (
    MAX_HELD_OUT,
    SPLIT_SEED,
    TEST_FRACTION,
    DatasetSplits,
    default_patch_size,
    held_out_patches,
    held_out_split,
)
from keras_dae.errors import UserError, first_line, printable
from keras_dae.images.find import describe_left_out, find_files
from keras_dae.images.read import IMAGE_SUFFIXES, read_image

Files = tuple[Path, ...]  # (clean,), or (clean, noisy) for real pairs


def find_images(folder: str | os.PathLike) -> list[Path]:
    """Return the sorted paths of all image files below `folder`; print what was left out. See `find_files`."""
    files, left_out = find_files(folder, IMAGE_SUFFIXES)
    if left_out:
        print(f"{printable(folder)}: {describe_left_out(left_out)}", file=sys.stderr)
    return files


def matched_pairs(noisy_dir: str, clean_dir: str) -> tuple[list[Files], list[str]]:
    """Match the image files of two folders by their paths within the folder.

    Files with the same path are a pair. Of the rest, two files whose paths differ only in the suffix are a pair, unless
    another file has that path, too.

    Returns:
        `(pairs, unmatched)`: a sorted list of `(clean, noisy)` files, and a sorted list of `path: reason` of all other
        files.

    Raises:
        UserError: a folder cannot be read.
    """
    noisy = {path.relative_to(noisy_dir): path for path in find_images(noisy_dir)}
    clean = {path.relative_to(clean_dir): path for path in find_images(clean_dir)}
    pairs: list[Files] = [(clean.pop(path), noisy.pop(path)) for path in noisy.keys() & clean.keys()]
    noisy_by_stem, clean_by_stem = _by_stem(noisy), _by_stem(clean)
    unmatched = []
    for stem in noisy_by_stem.keys() | clean_by_stem.keys():
        noisy_files, clean_files = noisy_by_stem[stem], clean_by_stem[stem]
        if len(noisy_files) == len(clean_files) == 1:
            pairs.append((clean_files[0], noisy_files[0]))
        else:
            unmatched += _reasons(clean_files, noisy_files, noisy_dir) + _reasons(noisy_files, clean_files, clean_dir)
    pairs.sort(key=lambda pair: (pair[0].relative_to(clean_dir).with_suffix(""), pair[0]))
    return pairs, sorted(unmatched)


def _by_stem(paths: dict[Path, Path]) -> defaultdict[Path, list[Path]]:
    """Group files by their path within the folder without the suffix."""
    by_stem = defaultdict(list)
    for path_within, path in paths.items():
        by_stem[path_within.with_suffix("")].append(path)
    return by_stem


def _reasons(files: list[Path], partners: list[Path], partner_dir: str) -> list[str]:
    """Return for each file `path: reason`: why it has no partner among those of its name in the other folder."""
    if partners:
        reason = f"several images have this name, in {partner_dir} or beside this file"
    else:
        reason = f"no image of that name in {partner_dir}"
    return [f"{file}: {reason}" for file in files]


def folder_dataset(
    config: TrainConfig, files: Sequence[Files], name: str, skipped: Sequence[str] = ()
) -> DatasetSplits:
    """Check image files, and divide them into training, validation and test images.

    Args:
        config: `TrainConfig`.
        files: image files, as `(clean,)` or `(clean, noisy)`.
        name: name of the dataset.
        skipped: `path: reason` of files that were left out before.

    Raises:
        UserError: there are too few usable images.
    """
    checked = _check_files(files, config.channels)
    size = config.patch_size or default_patch_size([min(shape) for shape in checked.sizes])
    is_large_enough = np.array([min(shape) >= size for shape in checked.sizes], bool)
    too_small = [
        f"{file[0]}: {height}×{width} pixels, smaller than the patch size {size}"
        for file, (height, width) in zip(checked.files, checked.sizes)
        if min(height, width) < size
    ]
    skipped = (*skipped, *checked.unusable, *too_small)
    if skipped:
        print(f"skipped {len(skipped)} files:", *map(printable, skipped), sep="\n  ", file=sys.stderr)
    if is_large_enough.sum() < 3:
        raise UserError(
            f"expected at least 3 usable images in {name} (one each for training, validation and test), "
            f"got {is_large_enough.sum()} of {len(files)}"
            + (f"; the first problem: {skipped[0]}" if skipped else "; looked for PNG, JPEG, TIFF and BMP")
        )

    # All readable files are divided before small ones and those over the limit are left out. So no image can be for
    # training with one patch size or limit, and for testing with another.
    kept, held_out = held_out_split(len(checked.files), TEST_FRACTION, SPLIT_SEED, MAX_HELD_OUT)
    kept, test = (rows[is_large_enough[rows]][: config.limit] for rows in (kept, held_out))
    if len(kept) < 2 or not len(test):
        raise UserError(
            f"expected images of at least {size}×{size} pixels to train on and to test with in {name}, got {len(kept)} "
            f"and {len(test)}; give a smaller --patch-size"
        )
    train, validation = held_out_split(len(kept), config.validation_split, config.seed, MAX_HELD_OUT)

    def stream(rows: np.ndarray) -> PatchStream:
        sizes = [checked.sizes[row] for row in rows]
        counts = tuple(count_patches(height, width, size, config.patches_per_image) for height, width in sizes)
        return PatchStream(lambda index: _read_files(checked.files[rows[index]], config.channels), counts, size)

    return DatasetSplits(
        name,
        checked.sha256,
        stream(kept[train]),
        held_out_patches(stream(kept[validation])),
        held_out_patches(stream(test)),
        skipped,
    )


class _Checked(NamedTuple):
    """Files after they have been decoded once.

    Attributes:
        files: the readable files, in order.
        sizes: their `(height, width)` in pixels.
        sha256: hash of all pixels, in order.
        unusable: `path: reason` of the other files.
    """

    files: list[Files]
    sizes: list[tuple[int, int]]
    sha256: str
    unusable: list[str]


def _check_files(files: Sequence[Files], channels: int) -> _Checked:
    """Decode every file once, with a progress bar."""

    def check(file: Files) -> tuple[tuple[int, int], bytes] | str:
        """Return the size and a hash of the pixels, or the reason why the file is not usable."""
        try:
            images = _read_files(file, channels)
        except Exception as error:  # noqa: BLE001 - decoders raise any exception; it is reported with the file's name
            return f"{file[-1]}: not a readable image ({first_line(error)})"
        if len({image.shape for image in images}) > 1:
            return f"{file[1]}: {images[1].shape[:2]} pixels, but {file[0]} has {images[0].shape[:2]}"
        return images[0].shape[:2], hashlib.sha256(b"".join(image.tobytes() for image in images)).digest()

    sha256, usable, sizes, unusable = hashlib.sha256(), [], [], []
    with ThreadPoolExecutor() as readers:
        checks = map_ahead(readers, check, files, ahead=16)
        for file, result in zip(files, tqdm(checks, "checking images", len(files), unit=" images", disable=None)):
            if isinstance(result, str):
                unusable.append(result)
                continue
            size, digest = result
            usable.append(file)
            sizes.append(size)
            sha256.update(digest)
    return _Checked(usable, sizes, sha256.hexdigest(), unusable)


def _read_files(files: Files, channels: int) -> Images:
    return tuple(read_image(file, channels) for file in files)
