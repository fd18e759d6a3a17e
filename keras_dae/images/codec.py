"""Image files for denoising: `decode` gives the pixels, `encode` writes other pixels into a file of the same kind."""

import io
import itertools
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageSequence, UnidentifiedImageError
from PIL.TiffImagePlugin import AppendingTiffWriter, TiffImageFile

from keras_dae.images.npy import MAGIC, load_arrays, save_arrays
from keras_dae.images.read import IMAGE_SUFFIXES, PILLOW_FORMATS

DENOISABLE_SUFFIXES = (*IMAGE_SUFFIXES, ".npy", ".npz")
METADATA_TAGS = {"icc_profile": 34675, "dpi": 282}  # metadata to copy: name in Image.info -> TIFF tag
ALPHA_MODES = {"P": "RGBA", "RGB": "RGBA", "L": "LA", "1": "LA"}  # Pillow's mode -> the mode with an alpha channel
COLOUR_PLANE_MODES = ("CMYK", "YCbCr", "LAB", "HSV")  # each channel is denoised as a grey image
JPEG_QUALITY = 95
MAX_PIXELS = 2**31  # in all pages of a file; Pillow itself refuses a page of more than 179 million


class Page(NamedTuple):
    """One image of a file.

    Attributes:
        pixels: array as a `keras_dae.denoise.denoiser.Denoiser` takes it.
        mode: Pillow's mode; empty for arrays.
        metadata: arguments of Pillow's `save`: orientation, colour profile, resolution, compression; None for arrays.
        array_name: name of the array in an .npz file.
        white: the largest value that the file declares, below that of the pixels' type; None if it declares none.
    """

    pixels: np.ndarray
    mode: str = ""
    metadata: dict[str, Any] | None = None
    array_name: str = ""
    white: int | None = None


def decode(content: bytes) -> tuple[str, list[Page]]:
    """Return the kind of an image file and its pages.

    Args:
        content: the bytes of the file.

    Returns:
        `(kind, pages)`. The kind is Pillow's name of the format, `npy` or `npz`.

    Raises:
        OSError: the image is damaged.
        ValueError: there is no image, or an image of a kind that is not supported.
        Exception: damaged archives raise others, see `keras_dae._util.archives.UNREADABLE`.
    """
    if content.startswith((MAGIC, b"PK")):
        arrays = load_arrays(io.BytesIO(content))
        if not arrays:
            raise ValueError("expected images, got an .npz without arrays")
        kind = "npy" if content.startswith(MAGIC) else "npz"
        return kind, [Page(array, array_name=name) for name, array in arrays.items()]
    try:
        opened = Image.open(io.BytesIO(content), formats=PILLOW_FORMATS)
    except UnidentifiedImageError:
        raise ValueError(f"expected {', '.join(PILLOW_FORMATS)}, .npy or .npz, got something else") from None
    with opened as image:
        if image.format == "PNG" and getattr(image, "is_animated", False):
            raise ValueError(f"expected still images, got an animation of {getattr(image, 'n_frames', 'several')}")
        is_camera_jpeg = image.format == "MPO"  # Pillow's name of a JPEG with a preview in it, which is left out
        kind = "JPEG" if is_camera_jpeg else str(image.format)
        pages, pixels = [], 0
        for page in itertools.islice(ImageSequence.Iterator(image), 1 if is_camera_jpeg else None):
            pixels += page.width * page.height
            if pixels > MAX_PIXELS:
                raise ValueError(f"expected at most {MAX_PIXELS:,} pixels in all pages, got more")
            pages.append(Page(_pixels(page), page.mode, _metadata(page), white=_declared_white(page)))
        return kind, pages


def encode(kind: str, pages: Sequence[Page]) -> bytes:
    """Return the bytes of an image file of this kind with these pages: the inverse of `decode`."""
    file = io.BytesIO()
    if kind == "npy":
        np.save(file, pages[0].pixels)
    elif kind == "npz":
        save_arrays(file, ((page.array_name, page.pixels) for page in pages))
    elif len(pages) == 1:
        _save(pages[0], file, kind)
    else:
        with AppendingTiffWriter(file) as writer:  # Pillow's save_all would give all pages the first page's metadata
            for page in pages:
                _save(page, writer, kind)
                writer.newFrame()
    return file.getvalue()


def _save(page: Page, file: Any, kind: str) -> None:
    metadata = page.metadata or {}
    is_jpeg = kind == "JPEG" or metadata.get("compression") == "jpeg"
    _image(page).save(file, kind, **metadata, **({"quality": JPEG_QUALITY} if is_jpeg else {}))


def _pixels(page: Image.Image) -> np.ndarray:
    """Return a Pillow image's pixels. The channels of other colour spaces than RGB become a batch of grey images."""
    if not page.mode.startswith(("I", "F")) and re.search(r";16[BLN]?$", _raw_mode(page)):
        raise ValueError(
            "expected 8 bits per channel, or 16-bit grey; got 16-bit colour or alpha, of which Pillow reads only 8 bits"
        )
    if "transparency" in page.info:
        if page.mode not in ALPHA_MODES:
            raise ValueError(f"transparency in images of mode {page.mode} is not supported")
        return np.asarray(page.convert(ALPHA_MODES[page.mode]))
    if page.mode == "P":
        return np.asarray(page.convert("RGB"))
    if page.mode == "I":
        values = np.asarray(page)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError(f"expected 16-bit values, got {values.min()} … {values.max()}")
        return values.astype(np.uint16)
    if page.mode.startswith("I;16"):
        return np.asarray(page).astype(np.uint16)  # from the file's byte order to the machine's
    if page.mode in ("1", "L", "LA", "RGB", "RGBA", "F"):
        return np.asarray(page)
    if page.mode in COLOUR_PLANE_MODES:
        return np.moveaxis(np.asarray(page), -1, 0)[..., None]
    raise ValueError(f"images of mode {page.mode} are not supported")


def _declared_white(page: Image.Image) -> int | None:
    """Return the largest value of the 9 to 15 bits per sample that a TIFF has or declares."""
    if not isinstance(page, TiffImageFile):
        return None
    bits = page.tag_v2.get(258, (1,))[0]
    declared = page.tag_v2.get(281, page.tag_v2.get(341, ()))  # MaxSampleValue, SMaxSampleValue
    white = int(max(declared, default=0)) if isinstance(declared, tuple) else int(declared)
    is_depth = 255 < white < 65535 and white & (white + 1) == 0  # otherwise it is the brightest value that is used
    return 2**bits - 1 if 8 < bits < 16 else white if bits == 16 and is_depth else None


def _raw_mode(page: Image.Image) -> str:
    """Return Pillow's name of the pixel layout in a PNG or TIFF file; an empty string for other formats."""
    tiles = getattr(page, "tile", None)
    if page.format not in ("PNG", "TIFF") or not tiles:
        return ""
    arguments = tiles[0].args
    return arguments if isinstance(arguments, str) else str(arguments[0])


def _image(page: Page) -> Image.Image:
    """Return a page as a Pillow image of the page's mode."""
    if page.mode == "P":
        colours = Image.fromarray(page.pixels)
        return colours.quantize(method=Image.Quantize.FASTOCTREE if colours.mode == "RGBA" else None)
    if page.mode == "I":
        return Image.fromarray(page.pixels.astype(np.int32))
    if page.mode in COLOUR_PLANE_MODES:
        return Image.merge(page.mode, [Image.fromarray(plane[..., 0]) for plane in page.pixels])
    return Image.fromarray(page.pixels)


def _metadata(page: Image.Image) -> dict[str, Any]:
    if isinstance(page, TiffImageFile):
        # Only what this page's own tags hold: Pillow reports the profile of the page before, and invents a resolution.
        # Without EXIF: it holds the offsets of the strips, and Pillow has already applied the orientation.
        names = ("compression", *(name for name, tag in METADATA_TAGS.items() if tag in page.tag_v2))
    else:
        names = (*METADATA_TAGS, "exif")
    return {name: page.info[name] for name in names if page.info.get(name)}
