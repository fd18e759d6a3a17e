"""`Page`: one image of a file, as a denoiser takes it; and the way from a page to a Pillow image and back."""

import io
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from keras_dae.errors import first_line

ALPHA_MODES = {"P": "RGBA", "RGB": "RGBA", "L": "LA", "1": "LA"}  # Pillow's mode -> the mode with an alpha channel
COLOUR_PLANE_MODES = ("CMYK", "YCbCr", "LAB", "HSV")  # each channel is denoised as a grey image
MAX_PIXELS = 2**31  # in all pages of a file
MAX_PAGE_PIXELS = 178_956_970  # Pillow's own limit


class Page(NamedTuple):
    """One image of a file.

    Attributes:
        pixels: array as a `keras_dae.denoise.denoiser.Denoiser` takes it.
        mode: Pillow's mode; empty for arrays, and for channels that are no known colours.
        form: what the format's `write` needs besides the pixels.
        array_name: name of the array in an .npz file.
        white: the largest value that the file declares, below that of the pixels' type; None if it declares none.
        lost: what the output cannot hold, a few words each.
    """

    pixels: np.ndarray
    mode: str = ""
    form: Any = None
    array_name: str = ""
    white: int | None = None
    lost: tuple[str, ...] = ()


def check_size(width: int, height: int, pixels_before: int = 0) -> int:
    """Return how many pixels the pages have together. Raises `ValueError` if they are too many.

    Args:
        width, height: of a page.
        pixels_before: of the pages before it.
    """
    if width * height > MAX_PAGE_PIXELS:
        raise ValueError(f"expected at most {MAX_PAGE_PIXELS:,} pixels in an image, got {width}×{height}")
    if pixels_before + width * height > MAX_PIXELS:
        raise ValueError(f"expected at most {MAX_PIXELS:,} pixels in all pages, got more")
    return pixels_before + width * height


def open_as(kind: str, content: bytes) -> Image.Image:
    """Return a file as a Pillow image of this format, and of no other: for some, Pillow runs external programs.

    Raises:
        OSError: it is damaged, or Pillow does not know this kind of it.
    """
    try:
        return Image.open(io.BytesIO(content), formats=[kind])
    except OSError as error:
        reason = "" if isinstance(error, UnidentifiedImageError) else f": {first_line(error)}"
        raise OSError(f"the {kind} is damaged, or of a kind that Pillow cannot read{reason}") from None


def orientation_of(image: Image.Image) -> int:
    """Return EXIF's orientation of a Pillow image. It is 1, upright, without EXIF, or if EXIF is damaged."""
    try:
        return image.getexif().get(0x0112, 1)
    except Exception:  # noqa: BLE001 - Pillow raises exceptions of many types; viewers ignore such EXIF, too
        return 1


def pixels_of(image: Image.Image) -> np.ndarray:
    """Return a Pillow image's pixels. The channels of other colour spaces than RGB become a batch of grey images.

    Raises:
        ValueError: the mode is not supported.
    """
    if "transparency" in image.info:
        if image.mode not in ALPHA_MODES:
            raise ValueError(f"a transparent colour is not supported in images of mode {image.mode}")
        return np.asarray(image.convert(ALPHA_MODES[image.mode]))
    if image.mode == "P":
        return np.asarray(image.convert("RGB"))
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)  # from the file's byte order to the machine's
    if image.mode in ("1", "L", "LA", "RGB", "RGBA"):
        return np.asarray(image)
    if image.mode in COLOUR_PLANE_MODES:
        return np.moveaxis(np.asarray(image), -1, 0)[..., None]
    raise ValueError(f"images of mode {image.mode} are not supported")


def image_of(page: Page) -> Image.Image:
    """Return a page as a Pillow image of the page's mode; of a mode without palette for `P`."""
    if page.mode in COLOUR_PLANE_MODES:
        return Image.merge(page.mode, [Image.fromarray(plane[..., 0]) for plane in page.pixels])
    return Image.fromarray(page.pixels)


def to_palette(pixels: np.ndarray, colours: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """Return colours as indices into a palette: exactly, if they are few enough, or else the nearest colours.

    Args:
        pixels: uint8 `(height, width, 3 or 4)`.
        colours: how many the palette may have, at most 256.

    Returns:
        `(indices, palette)`: uint8 `(height, width)`, and uint8 `(at most colours, 3 or 4)`.

    Example:
        >>> to_palette(np.array([[[9, 9, 9], [0, 0, 0], [9, 9, 9]]], np.uint8))[0].tolist()
        [[1, 0, 1]]
    """
    channels = pixels.shape[-1]
    codes = sum(pixels[..., index].astype(np.uint32) << (8 * (channels - 1 - index)) for index in range(channels))
    used, indices = np.unique(codes, return_inverse=True)
    if len(used) <= colours:
        palette = np.stack([used >> (8 * (channels - 1 - index)) & 255 for index in range(channels)], axis=-1)
        return indices.reshape(codes.shape).astype(np.uint8), palette.astype(np.uint8)
    method = Image.Quantize.FASTOCTREE if channels == 4 else None
    quantized = Image.fromarray(pixels).quantize(colours, method=method)
    palette = np.array(quantized.getpalette("RGBA" if channels == 4 else "RGB"), np.uint8).reshape(-1, channels)
    return np.asarray(quantized), palette[:colours]
