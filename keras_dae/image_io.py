"""Image files in and out as they are: `decode` gives pixels, `encode` puts others into the same kind of file."""

import io
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageSequence, UnidentifiedImageError

from keras_dae import image_files
from keras_dae.npy import MAGIC, load_arrays

SUFFIXES = (*image_files.SUFFIXES, ".npy", ".npz")
FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
KEPT = ("icc_profile", "dpi")  # of what Pillow reads beside the pixels
JPEG_QUALITY = 95
MOST_PIXELS = 2**31  # in all pages of a file; of a single page Pillow refuses more than 179 million


class Page(NamedTuple):
    """One image of a file.

    Attributes:
        pixels: an array as a `Denoiser` takes it.
        mode: Pillow's mode, or the name of an .npz's member.
        extras: what Pillow's `save` keeps of the rest: orientation, colour profile, resolution, compression.
    """

    pixels: np.ndarray
    mode: str = ""
    extras: dict | None = None


def decode(content):
    """Return `(kind, pages)` of a file's bytes: Pillow's name of the format, `npy` or `npz`, and a list of `Page`.

    Raises:
        OSError, ValueError: there is no image, or one of a kind that is not supported.
    """
    if content.startswith((MAGIC, b"PK")):
        arrays = load_arrays(io.BytesIO(content))
        if not arrays:
            raise ValueError("expected images, got an .npz without arrays")
        kind = "npy" if content.startswith(MAGIC) else "npz"
        return kind, [Page(array, name) for name, array in arrays.items()]
    try:
        opened = Image.open(io.BytesIO(content))
    except UnidentifiedImageError:
        raise ValueError(f"expected {', '.join(FORMATS)}, .npy or .npz, got something else") from None
    with opened as image:
        if image.format not in FORMATS:
            raise ValueError(f"expected {', '.join(FORMATS)}, .npy or .npz, got {image.format}")
        pages, size = [], 0
        for page in ImageSequence.Iterator(image):
            size += page.width * page.height
            if size > MOST_PIXELS:
                raise ValueError(f"expected at most {MOST_PIXELS:,} pixels in all pages, got more")
            pages.append(Page(_pixels(page), page.mode, _extras(page)))
        return image.format, pages


def encode(kind, pages):
    """Return the bytes of a file of this kind with these pages, the reverse of `decode`."""
    file = io.BytesIO()
    if kind == "npy":
        np.save(file, pages[0].pixels)
    elif kind == "npz":
        np.savez_compressed(file, **{page.mode: page.pixels for page in pages})
    else:
        first, *others = (_image(page) for page in pages)
        options = dict(pages[0].extras)
        if others:
            options |= {"save_all": True, "append_images": others}
        if kind == "JPEG":
            options["quality"] = JPEG_QUALITY
        first.save(file, kind, **options)
    return file.getvalue()


def _pixels(page):
    """Return a Pillow image's pixels; colours that are not red, green and blue as a batch of grey planes."""
    if page.mode == "P":
        return np.asarray(page.convert("RGBA" if "transparency" in page.info else "RGB"))
    if page.mode == "I":
        values = np.asarray(page)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError(f"expected 16-bit values, got {values.min()} … {values.max()}")
        return values.astype(np.uint16)
    if page.mode.startswith("I;16"):
        return np.asarray(page).astype(np.uint16)  # in this machine's byte order
    if page.mode in ("1", "L", "LA", "RGB", "RGBA", "F"):
        return np.asarray(page)
    if page.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        return np.moveaxis(np.asarray(page), -1, 0)[..., None]
    raise ValueError(f"images of mode {page.mode} are not supported")


def _image(page):
    """Return the Pillow image of a page, in the mode that it had."""
    if page.mode == "P":
        colours = Image.fromarray(page.pixels)
        return colours.quantize(method=Image.Quantize.FASTOCTREE if colours.mode == "RGBA" else None)
    if page.mode == "I":
        return Image.fromarray(page.pixels.astype(np.int32))
    if page.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        return Image.merge(page.mode, [Image.fromarray(plane[..., 0]) for plane in page.pixels])
    return Image.fromarray(page.pixels)


def _extras(page):
    # A TIFF's EXIF is of no use: it says where strips lie, and Pillow turns the image upright as it reads it.
    kept = (*KEPT, "compression" if page.format == "TIFF" else "exif")
    return {name: page.info[name] for name in kept if page.info.get(name)}
