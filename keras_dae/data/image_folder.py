"""Clean images from a folder of image files, or real pairs from two: checked once, then read as they are needed."""

import hashlib
import sys
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from keras_dae._util.threads import map_ahead
from keras_dae.data.patches import PatchStream, count_patches
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
from keras_dae.images.read import find_images, read_image


def matched_pairs(noisy_dir, clean_dir):
    """Return `(clean, noisy)` files that have the same name, if need be but for the ending, a name, and all others."""
    noisy, clean = ({path.relative_to(top): path for path in find_images(top)} for top in (noisy_dir, clean_dir))
    files = [(clean.pop(name), noisy.pop(name)) for name in noisy.keys() & clean.keys()]
    noisy, clean = _by_stem(noisy), _by_stem(clean)
    others = []
    for stem in noisy.keys() | clean.keys():
        found = clean.get(stem, []), noisy.get(stem, [])
        if [len(paths) for paths in found] == [1, 1]:
            files.append((found[0][0], found[1][0]))
            continue
        for paths, partners, folder in zip(found, found[::-1], (noisy_dir, clean_dir)):
            reason = f"not one, but several images of that name in {folder}, or beside it" if partners else None
            others += [f"{path}: {reason or f'no image of that name in {folder}'}" for path in paths]
    files.sort(key=lambda pair: (pair[0].relative_to(clean_dir).with_suffix(""), pair[0]))
    return files, f"{Path(noisy_dir).resolve().name}-pairs", tuple(sorted(others))


def _by_stem(paths):
    """Return relative path without the ending -> list of paths, from relative path -> path."""
    found = defaultdict(list)
    for name, path in paths.items():
        found[name.with_suffix("")].append(path)
    return found


def folder_dataset(config, files, name, skipped):
    """Check, split and hold image files; `files` are tuples of one clean, or a clean and a noisy, file."""
    files, sizes, sha256, unusable = _check_files(files, config)
    skipped += unusable
    size = config.patch_size or default_patch_size([min(height, width) for height, width in sizes])
    large = np.array([min(shape) >= size for shape in sizes], bool)
    skipped += tuple(
        f"{file[0]}: {height}×{width} pixels, smaller than the patch size {size}"
        for file, (height, width), enough in zip(files, sizes, large)
        if not enough
    )
    if skipped:
        print(f"skipped {len(skipped)} files:", *map(printable, skipped), sep="\n  ", file=sys.stderr)
    if large.sum() < 3:
        raise UserError(
            f"expected at least 3 usable images in {name} (one each for training, validation and test), "
            f"got {large.sum()} of {len(files) + len(unusable)}"
            + (f"; the first problem: {skipped[0]}" if skipped else "; looked for PNG, JPEG, TIFF and BMP")
        )

    def stream(rows):
        counts = tuple(count_patches(*sizes[row], size, config.patches_per_image) for row in rows)
        return PatchStream(lambda index: _read_files(files[rows[index]], config.channels), counts, size)

    # Before any is left out: whatever the patch size and the limit, no image is for training here, for testing there.
    divided = held_out_split(len(files), TEST_FRACTION, SPLIT_SEED, MAX_HELD_OUT)
    rest, test = (rows[large[rows]][: config.limit] for rows in divided)
    if len(rest) < 2 or not len(test):
        raise UserError(
            f"expected images of at least {size}×{size} pixels to train on and to test with in {name}, got {len(rest)} "
            f"and {len(test)}; give a smaller --patch-size"
        )
    train, validation = held_out_split(len(rest), config.validation_split, config.seed, MAX_HELD_OUT)
    return DatasetSplits(
        name,
        sha256,
        stream(rest[train]),
        held_out_patches(stream(rest[validation])),
        held_out_patches(stream(test)),
        skipped,
    )


def _check_files(files, config):
    """Decode every file once. Return the readable ones, their `(height, width)`, a SHA-256, and the others."""

    def check(file):
        try:
            images = _read_files(file, config.channels)
        except Exception as error:  # noqa: BLE001 - decoders raise what they like; the file is reported, not hidden
            return None, f"{file[-1]}: not a readable image ({first_line(error)})", b""
        shapes = {image.shape for image in images}
        if len(shapes) > 1:
            return None, f"{file[1]}: {images[1].shape[:2]} pixels, but {file[0]} has {images[0].shape[:2]}", b""
        return images[0].shape[:2], None, hashlib.sha256(b"".join(image.tobytes() for image in images)).digest()

    sha256, usable, sizes, unusable = hashlib.sha256(), [], [], []
    with ThreadPoolExecutor() as readers:
        checks = tqdm(
            map_ahead(readers, check, files, ahead=16), "checking images", len(files), unit=" images", disable=None
        )
        for file, (shape, problem, digest) in zip(files, checks):
            sha256.update(digest)
            if problem:
                unusable.append(problem)
            else:
                usable.append(file)
                sizes.append(shape)
    return usable, sizes, sha256.hexdigest(), tuple(unusable)


def _read_files(files, channels):
    return tuple(read_image(file, channels) for file in files)
