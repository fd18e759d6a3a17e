"""Clean images from a folder of image files, or real pairs from two: checked once, then read as they are needed."""

import hashlib
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from keras_dae.dataset import MOST_HELD, SPLIT_SEED, TEST_SHARE, DataSet, fitting_patch, held_patches, split
from keras_dae.errors import UserError, first_line, printable
from keras_dae.image_files import find_images, read_image
from keras_dae.patches import PatchStream, patches_in
from keras_dae.threads import map_ahead


def matched_pairs(noisy_dir, clean_dir):
    """Return `(clean, noisy)` files that have the same name but for the ending, a name, and what has no partner."""
    noisy, clean = ({path.relative_to(top).with_suffix(""): path for path in find_images(top)}
                    for top in (noisy_dir, clean_dir))  # fmt: skip
    alone = [f"{path}: no image of that name in {clean_dir}" for name, path in noisy.items() if name not in clean]
    alone += [f"{path}: no image of that name in {noisy_dir}" for name, path in clean.items() if name not in noisy]
    files = [(clean[name], noisy[name]) for name in sorted(noisy.keys() & clean.keys())]
    return files, f"{Path(noisy_dir).resolve().name}-pairs", tuple(alone)


def folder_dataset(config, files, name, skipped):
    """Check, split and hold image files; `files` are tuples of one clean, or a clean and a noisy, file."""
    files, sizes, sha256, unusable = _check_files(files, config)
    skipped += unusable
    size = config.patch_size or fitting_patch([min(height, width) for height, width in sizes])
    large = [min(height, width) >= size for height, width in sizes]
    skipped += tuple(
        f"{file[0]}: {height}×{width} pixels, smaller than the patch size {size}"
        for file, (height, width), enough in zip(files, sizes, large)
        if not enough
    )
    if skipped:
        print(f"skipped {len(skipped)} files:", *map(printable, skipped), sep="\n  ", file=sys.stderr)
    usable = [(file, shape) for file, shape, enough in zip(files, sizes, large) if enough][: config.limit]
    if len(usable) < 3:
        raise UserError(
            f"expected at least 3 usable images in {name} (one each for training, validation and test), "
            f"got {len(usable)} of {len(files) + len(unusable)}"
            + (f"; the first problem: {skipped[0]}" if skipped else "; looked for PNG, JPEG, TIFF and BMP")
        )

    def stream(rows):
        chosen = [usable[row] for row in rows]
        counts = tuple(patches_in(*shape, size, config.patches_per_image) for _, shape in chosen)
        return PatchStream(lambda row: _read_files(chosen[row][0], config.channels), counts, size)

    rest, test = split(len(usable), TEST_SHARE, SPLIT_SEED, MOST_HELD)
    train, validation = split(len(rest), config.validation_split, config.seed, MOST_HELD)
    return DataSet(
        name,
        sha256,
        stream(rest[train]),
        held_patches(stream(rest[validation])),
        held_patches(stream(test)),
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
