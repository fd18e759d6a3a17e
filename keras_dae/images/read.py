"""Image files for training: read one as an array."""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from keras_dae.images.kinds import FORMATS, pages_of
from keras_dae.images.page import Page, image_of
from keras_dae.images.unit_range import compact, type_white

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".bmp", ".webp")
GREY_WEIGHTS = (0.299, 0.587, 0.114)  # of red, green and blue: ITU-R BT.601, as Pillow has them


class StoredImage(NamedTuple):
    """The first image of a file.

    Attributes:
        pixels: array `(height, width, channels)`, as `read_image` describes it.
        kind: format of the file, a name in `keras_dae.images.kinds.FORMATS`.
        white: the largest value that the file declares, below that of the pixels' type; None if it declares none.
    """

    pixels: np.ndarray
    kind: str
    white: int | None


def read_image(path: str | os.PathLike, channels: int) -> np.ndarray:
    """Return an image file as an array `(height, width, channels)`.

    Files of 1 to 8 bits give uint8 in 0 … 255, deeper files uint16 as they are stored, and float files float32 in
    [0, 1]. Only the first page of a TIFF is read. Alpha is dropped. The orientation that a camera noted is applied.

    Args:
        path: path of the image file.
        channels: 1 (grey) or 3 (RGB).

    Raises:
        OSError: the file cannot be read, or is not an image.
        ValueError: the pixels are out of range, or of a kind that is not supported.
    """
    return read_stored(path, channels).pixels


def read_stored(path: str | os.PathLike, channels: int | None = None) -> StoredImage:
    """Return an image file as `read_image` does, with its format.

    Args:
        path: path of the image file.
        channels: 1 (grey) or 3 (RGB); None for those that the file has.

    Raises:
        OSError, ValueError: as `read_image` raises them.
    """
    content = Path(path).read_bytes()
    kind, pages = pages_of(content)
    page = next(pages)
    return StoredImage(_upright(_colours(page, channels), FORMATS[kind].orientation(content, page)), kind, page.white)


def _colours(page: Page, channels: int | None) -> np.ndarray:
    """Return the pixels of a page as `(height, width, channels)`; None keeps the channels."""
    pixels = page.pixels
    if pixels.ndim == 4:
        if page.mode not in ("CMYK", "YCbCr") or pixels.dtype != np.uint8:
            raise ValueError(f"expected a grey or RGB image, got {len(pixels)} channels of other colours")
        pixels = np.asarray(image_of(page).convert("RGB"))
    elif pixels.ndim == 2:
        pixels = pixels[..., None]
    if page.mode in ("La", "RGBa"):
        pixels = _without_premultiplied_alpha(pixels, page.white or type_white(pixels.dtype))
    elif pixels.shape[-1] in (2, 4):
        pixels = pixels[..., :-1]
    if pixels.dtype.kind not in "u":
        pixels = compact(pixels)
    if channels in (None, pixels.shape[-1]):
        return np.ascontiguousarray(pixels)
    if channels == 3:
        return np.repeat(pixels, 3, axis=-1)
    if pixels.dtype == np.uint8:
        return np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).convert("L"))[..., None]
    grey = (pixels @ np.array(GREY_WEIGHTS))[..., None]
    return (np.rint(grey) if pixels.dtype.kind == "u" else grey).astype(pixels.dtype)


def _without_premultiplied_alpha(pixels: np.ndarray, white: int) -> np.ndarray:
    """Return the colours of pixels whose colours were multiplied with alpha, the last channel, `white` if opaque."""
    colours, alpha = pixels[..., :-1], pixels[..., -1:]
    divided = np.minimum(colours.astype(np.float64) * white / np.maximum(alpha, 1 if white > 1 else 1e-9), white)
    divided = np.floor(divided) if white > 1 else divided
    return np.where(alpha == 0, colours, divided).astype(pixels.dtype)


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Return pixels turned as EXIF's orientation, 1 to 8, says. Any other number means 1."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
