"""Image files in and out as they are: `decode` gives pixels, `encode` puts others into the same kind of file."""

import io
import itertools
import re
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageSequence, UnidentifiedImageError
from PIL.TiffImagePlugin import AppendingTiffWriter

from keras_dae.images import read
from keras_dae.images.npy import MAGIC, load_arrays, save_arrays
from keras_dae.images.read import PILLOW_FORMATS

DENOISABLE_SUFFIXES = (*read.IMAGE_SUFFIXES, ".npy", ".npz")
KEPT = {"icc_profile": 34675, "dpi": 282}  # of what Pillow reads beside the pixels, with TIFF's tags
ALPHA = {"P": "RGBA", "RGB": "RGBA", "L": "LA", "1": "LA"}  # for images one of whose colours is transparent
JPEG_QUALITY = 95
MAX_PIXELS = 2**31  # in all pages of a file; of a single page Pillow refuses more than 179 million


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
        opened = Image.open(io.BytesIO(content), formats=PILLOW_FORMATS)
    except UnidentifiedImageError:
        raise ValueError(f"expected {', '.join(PILLOW_FORMATS)}, .npy or .npz, got something else") from None
    with opened as image:
        if image.format == "PNG" and getattr(image, "is_animated", False):
            raise ValueError(f"expected still images, got an animation of {image.n_frames}")
        kind, most = image.format, None
        if kind == "MPO":  # what Pillow makes of a camera's JPEG with a preview in it
            kind, most = "JPEG", 1
        pages, size = [], 0
        for page in itertools.islice(ImageSequence.Iterator(image), most):
            size += page.width * page.height
            if size > MAX_PIXELS:
                raise ValueError(f"expected at most {MAX_PIXELS:,} pixels in all pages, got more")
            pages.append(Page(_pixels(page), page.mode, _extras(page)))
        return kind, pages


def encode(kind, pages):
    """Return the bytes of a file of this kind with these pages, the reverse of `decode`."""
    file = io.BytesIO()
    if kind == "npy":
        np.save(file, pages[0].pixels)
    elif kind == "npz":
        save_arrays(file, {page.mode: page.pixels for page in pages})
    elif len(pages) == 1:
        _save(pages[0], file, kind)
    else:
        with AppendingTiffWriter(file) as writer:  # `save_all` would give all pages what the first one has
            for page in pages:
                _save(page, writer, kind)
                writer.newFrame()
    return file.getvalue()


def _save(page, file, kind):
    is_jpeg = kind == "JPEG" or page.extras.get("compression") == "jpeg"
    _image(page).save(file, kind, **page.extras, **({"quality": JPEG_QUALITY} if is_jpeg else {}))


def _pixels(page):
    """Return a Pillow image's pixels; colours that are not red, green and blue as a batch of grey planes."""
    if not page.mode.startswith(("I", "F")) and re.search(r";16[BLN]?$", _raw_mode(page)):
        raise ValueError(
            "expected 8 bits a colour, or 16 in grey alone; got 16-bit colour or alpha, of which Pillow reads only 8"
        )
    if "transparency" in page.info:
        if page.mode not in ALPHA:
            raise ValueError(f"transparency in images of mode {page.mode} is not supported")
        return np.asarray(page.convert(ALPHA[page.mode]))
    if page.mode == "P":
        return np.asarray(page.convert("RGB"))
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


def _raw_mode(page):
    """Return how the pixels lie in a PNG or TIFF file, as Pillow calls it; of other formats, nothing."""
    if page.format not in ("PNG", "TIFF") or not page.tile:
        return ""
    arguments = page.tile[0].args
    return arguments if isinstance(arguments, str) else str(arguments[0])


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
    if page.format != "TIFF":
        kept = (*KEPT, "exif")
    else:  # Pillow keeps the profile of the page before, and makes up a resolution
        kept = ("compression", *(name for name, tag in KEPT.items() if tag in page.tag_v2))
    return {name: page.info[name] for name in kept if page.info.get(name)}
