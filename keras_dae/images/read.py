"""Image files: finding them in a folder, and reading one as an array."""

import os
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from keras_dae.errors import UserError
from keras_dae.images.unit_range import compact

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
PILLOW_FORMATS = ("PNG", "JPEG", "TIFF", "BMP")  # that Pillow may read: for others it runs other programs


def find_images(folder):
    """Return the paths of all image files below `folder`, see `find_files`."""
    return find_files(folder, IMAGE_SUFFIXES)


def find_files(folder, suffixes):
    """Return the paths of all files below `folder` that end in `suffixes`, sorted; links to folders are not followed.

    A folder below that cannot be read is listed like a file, and so will be reported like one.

    Raises:
        UserError: when `folder` is not a folder that can be read.
    """
    unreadable = []

    def fail(error):
        if Path(error.filename) == Path(folder):
            raise UserError(f"cannot read the folder {folder}: {error.strerror}")
        unreadable.append(Path(error.filename))

    if not os.path.isdir(folder):
        raise UserError(f"expected a folder of images, got {folder}, which is {_what_is(folder)}")
    found = [
        Path(root, name)
        for root, _, names in os.walk(folder, onerror=fail)
        for name in names
        if name.lower().endswith(suffixes)
    ]
    return sorted(found + unreadable)


def read_image(path, channels):
    """Return an image file (of a multi-page TIFF, the first page) as `(height, width, channels)`.

    8-bit and 1-bit files give uint8 in 0 … 255, deeper ones float32 in [0, 1]; alpha is dropped; the orientation
    that a camera noted is applied. Raises `OSError` or `ValueError` when the file is no readable image.
    """
    with Image.open(path, formats=PILLOW_FORMATS) as opened:
        image = ImageOps.exif_transpose(opened)
        if image.mode in ("I", "F") or image.mode.startswith("I;16"):
            values = _scale_deep(np.asarray(image), image.mode)
            return np.repeat(values[..., None], channels, axis=-1)
        image = image.convert("L" if channels == 1 else "RGB")
        return np.asarray(image).reshape(image.height, image.width, channels)


def _scale_deep(values, mode):
    """Return 16-bit (also in a 32-bit container) or float values as float32 in [0, 1]."""
    if mode == "F":
        return compact(values.astype(np.float32))
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(f"expected 16-bit values, got {values.min()} … {values.max()}")
    return compact(values.astype(np.uint16))


def _what_is(path):
    return "a file" if os.path.isfile(path) else "not there"
