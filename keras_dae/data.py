"""Where clean images come from: `load_dataset` gives the training, validation and test images of a config."""

import dataclasses
import hashlib
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from keras_dae.digits import cached_digits
from keras_dae.errors import UserError, first_line, printable
from keras_dae.image_files import find_images, read_image, to_unit_range
from keras_dae.mnist import NotAvailable, load_mnist
from keras_dae.patches import PatchStream, patches_in, unit_float

NAMES = ("auto", "mnist", "fashion_mnist", "digits")
MIN_PATCH, MAX_PATCH = 20, 64  # pixels; the network's least size, rounded up to a multiple of 4; the default's most
TEST_SHARE = 0.1  # of a folder's images; MNIST has a test set of its own
MOST_HELD = 200  # images at most for testing, and for validation, out of a folder or of large arrays
MOST_HELD_PATCHES = 1000  # that these may give: they are kept in memory
SPLIT_SEED = 0  # the test images of a folder are the same whatever the training's seed


@dataclass(frozen=True)
class Pairs:
    """Images to measure on: clean uint8 or float32 `(n, height, width, channels)`; noisy likewise, or None.

    Values are 0 … 255 (uint8) or [0, 1] (float32). Where `noisy` is None, noise is synthesized.
    """

    clean: np.ndarray
    noisy: np.ndarray | None = None

    def __len__(self):
        return len(self.clean)


@dataclass(frozen=True)
class DataSet:
    """What a run learns from and is measured on.

    Attributes:
        name: `mnist`, `digits`, …, or the name of the user's folder or file.
        sha256: of the content.
        train: an array `(n, height, width, channels)` used whole, or a `PatchStream`.
        validation, test: `Pairs`.
        skipped: `path: reason` of every file that could not be used.
    """

    name: str
    sha256: str
    train: np.ndarray | PatchStream
    validation: Pairs
    test: Pairs
    skipped: tuple[str, ...] = ()


def load_dataset(config):
    """Return the `DataSet` that a `TrainConfig` names.

    Raises:
        UserError: nothing usable is there; says what was looked for and where.
    """
    if config.has_pairs:
        return _folder_dataset(config, *_matched(config.noisy_dir, config.clean_dir))
    if config.dataset in NAMES:
        if config.channels != 1:
            raise UserError(f"expected --channels 1 for {config.dataset}, which is grey, got {config.channels}")
        name, train, test = _named(config)
        return _array_dataset(config, name, train[..., None], test[..., None])
    path = Path(config.dataset)
    if path.is_dir():
        return _folder_dataset(config, [(file,) for file in find_images(path)], path.resolve().name, ())
    if path.suffix in (".npz", ".npy") and path.is_file():
        return _array_dataset(config, path.stem, *_read_arrays(path, config))
    raise UserError(
        f"expected --dataset to be one of {', '.join(NAMES)}, a folder of images, or an .npz or .npy file; "
        f"got {config.dataset}, which is none of them"
    )


def _named(config):
    if config.dataset == "digits":
        return "digits", *cached_digits()
    name = "mnist" if config.dataset == "auto" else config.dataset
    try:
        return name, *load_mnist(name, config.data_dir)
    except NotAvailable as error:
        if config.dataset != "auto":
            raise
        print(f"*** NOT MNIST: training on the built-in digits instead, because {error}. ***", file=sys.stderr)
        return "digits", *cached_digits()


def _read_arrays(path, config):
    """Return `(images, None)`, or `(train, test)` where an .npz holds x_train and x_test."""
    try:
        loaded = np.load(path, allow_pickle=False)
        arrays = {"images": loaded} if path.suffix == ".npy" else {key: loaded[key] for key in loaded.files}
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
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
        return to_unit_range(images)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None


def _array_dataset(config, name, train, test):
    """Split arrays. Images of one small size are used whole, larger or odd-sized ones in patches."""
    sha256 = hashlib.sha256()
    for images in (train,) if test is None else (train, test):
        sha256.update(repr((images.shape, images.dtype.str)).encode())
        sha256.update(np.ascontiguousarray(images))
    if test is None:
        train_rows, test_rows = _split(len(train), TEST_SHARE, SPLIT_SEED, most=len(train))
        train, test = train[train_rows], train[test_rows]
    train, test = train[: config.limit], test[: config.limit]
    train_rows, validation_rows = _split(len(train), config.validation_split, config.seed, most=len(train))
    height, width, _ = train.shape[1:]
    size = config.patch_size or _fitting_patch([min(height, width)])
    if min(height, width) < size:
        raise UserError(f"expected images of at least {size}×{size} pixels in {name}, got {height}×{width}")
    if (height, width) == (size, size) or (config.patch_size is None and _whole(height, width)):
        return DataSet(name, sha256.hexdigest(), train[train_rows], Pairs(train[validation_rows]), Pairs(test))

    count = patches_in(height, width, size, config.patches_per_image)
    stream = PatchStream(lambda row: (train[train_rows[row]],), (count,) * len(train_rows), size)
    held = [
        _held_patches(PatchStream(lambda row, part=part: (part[row],), (count,) * len(part), size))
        for part in (train[validation_rows[:MOST_HELD]], test[:MOST_HELD])
    ]
    return DataSet(name, sha256.hexdigest(), stream, *held)


def _whole(height, width):
    return height % 4 == width % 4 == 0 and max(height, width) <= MAX_PATCH


def _matched(noisy_dir, clean_dir):
    """Return `(clean, noisy)` files that have the same name but for the ending, a name, and what has no partner."""
    noisy, clean = ({path.relative_to(top).with_suffix(""): path for path in find_images(top)}
                    for top in (noisy_dir, clean_dir))  # fmt: skip
    alone = [f"{path}: no image of that name in {clean_dir}" for name, path in noisy.items() if name not in clean]
    alone += [f"{path}: no image of that name in {noisy_dir}" for name, path in clean.items() if name not in noisy]
    files = [(clean[name], noisy[name]) for name in sorted(noisy.keys() & clean.keys())]
    return files, f"{Path(noisy_dir).resolve().name}-pairs", tuple(alone)


def _folder_dataset(config, files, name, skipped):
    """Check, split and hold image files; `files` are tuples of one clean, or a clean and a noisy, file."""
    files, sizes, sha256, unusable = _check_files(files, config)
    skipped += unusable
    size = config.patch_size or _fitting_patch([min(height, width) for height, width in sizes])
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

    rest, test = _split(len(usable), TEST_SHARE, SPLIT_SEED, MOST_HELD)
    train, validation = _split(len(rest), config.validation_split, config.seed, MOST_HELD)
    return DataSet(
        name,
        sha256,
        stream(rest[train]),
        _held_patches(stream(rest[validation])),
        _held_patches(stream(test)),
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
        checks = tqdm(_few_ahead(readers, check, files), "checking images", len(files), unit="images", disable=None)
        for file, (shape, problem, digest) in zip(files, checks):
            sha256.update(digest)
            if problem:
                unusable.append(problem)
            else:
                usable.append(file)
                sizes.append(shape)
    return usable, sizes, sha256.hexdigest(), tuple(unusable)


def _few_ahead(pool, function, items, ahead=16):
    """Like `pool.map`, but never more than `ahead` results wait in memory."""
    pending = []
    for item in items:
        pending.append(pool.submit(function, item))
        if len(pending) >= ahead:
            yield pending.pop(0).result()
    for future in pending:
        yield future.result()


def _read_files(files, channels):
    return tuple(read_image(file, channels) for file in files)


def _fitting_patch(sides):
    """Return a patch size for images with these shorter sides: at most MAX_PATCH, and so that 19 in 20 fit."""
    most = int(np.quantile(sides, 0.05, method="lower")) if sides else MAX_PATCH
    return int(np.clip(most // 4 * 4, MIN_PATCH, MAX_PATCH))


def _split(count, share, seed, most):
    """Return `(rest, held)`: sorted row numbers, drawn by seed; at least one each where count allows."""
    if count < 2:
        raise UserError(f"expected at least 2 images to hold one out for validation, got {count}")
    order = np.random.default_rng([seed, count]).permutation(count)
    held = min(most, count - 1, max(1, round(count * share)))
    return np.sort(order[held:]), np.sort(order[:held])


def _held_patches(stream):
    """Return patches of a stream, cut at places that never change, as `Pairs` in memory."""
    share = max(1, MOST_HELD_PATCHES // len(stream.patches))
    stream = dataclasses.replace(stream, patches=tuple(min(count, share) for count in stream.patches))
    cuts = (stream.cut(index, np.random.default_rng(index)) for index in range(len(stream.patches)))
    patches = [patch for cut in cuts for patch in cut]
    images = [list(kind) for kind in zip(*patches)]
    if len({image.dtype for kind in images for image in kind}) > 1:  # a folder of both 8-bit and deeper images
        images = [[unit_float(image) for image in kind] for kind in images]
    return Pairs(*(np.stack(kind) for kind in images))
