"""Image files for training: read one as an array."""

import os

import numpy as np
from PIL import Image, ImageOps

from keras_dae.images.unit_range import compact

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".bmp")
PILLOW_FORMATS = ("PNG", "JPEG", "TIFF", "BMP")  # all that Pillow may read: for some others it runs external programs


def read_image(path: str | os.PathLike, channels: int) -> np.ndarray:
    """Return an image file as an array `(height, width, channels)`.

    1-bit and 8-bit files give uint8 in 0 … 255, 16-bit files uint16 as they are stored, and float files float32 in
    [0, 1]. Only the first page of a TIFF is read. Alpha is dropped. The orientation that a camera noted is applied.

    Args:
        path: path of the image file.
        channels: 1 (grey) or 3 (RGB).

    Raises:
        OSError: the file cannot be read, or is not an image.
        ValueError: the pixels are out of range.
    """
    with Image.open(path, formats=PILLOW_FORMATS) as opened:
        image = ImageOps.exif_transpose(opened)
        if image.mode in ("I", "F") or image.mode.startswith("I;16"):
            values = _deep_pixels(np.asarray(image), image.mode)
            return np.repeat(values[..., None], channels, axis=-1)
        image = image.convert("L" if channels == 1 else "RGB")
        return np.asarray(image).reshape(image.height, image.width, channels)


def _deep_pixels(values: np.ndarray, mode: str) -> np.ndarray:
    """Return float pixels as float32 in [0, 1], or 16-bit pixels (also in a 32-bit container) as uint16."""
    if mode == "F":
        return compact(values.astype(np.float32))
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(f"expected 16-bit values, got {values.min()} … {values.max()}")
    return values.astype(np.uint16)
