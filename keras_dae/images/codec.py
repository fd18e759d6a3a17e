"""Image files for denoising: `decode` gives the pixels, `encode` writes other pixels into a file of the same kind."""

import io
from collections.abc import Sequence

import numpy as np

from keras_dae.images.kinds import FORMATS, pages_of
from keras_dae.images.npy import MAGIC, load_arrays, save_arrays
from keras_dae.images.page import Page
from keras_dae.images.read import IMAGE_SUFFIXES

DENOISABLE_SUFFIXES = (*IMAGE_SUFFIXES, ".dng", ".npy", ".npz")  # a DNG is a TIFF, and is refused by name


def decode(content: bytes) -> tuple[str, list[Page]]:
    """Return the kind of an image file and its pages.

    Args:
        content: the bytes of the file.

    Returns:
        `(kind, pages)`. The kind is `PNG`, `JPEG`, `TIFF`, `BMP`, `WebP`, `npy` or `npz`.

    Raises:
        OSError: the image is damaged. `PIL.UnidentifiedImageError`: it is of another format.
        ValueError: there is no image, or an image of a kind that is not supported.
        Exception: damaged archives raise others, see `keras_dae._util.archives.UNREADABLE`.
    """
    if content.startswith((MAGIC, b"PK")):
        arrays = load_arrays(io.BytesIO(content))
        if not arrays:
            raise ValueError("expected images, got an .npz without arrays")
        kind = "npy" if content.startswith(MAGIC) else "npz"
        return kind, [Page(array, array_name=name) for name, array in arrays.items()]
    kind, read_pages = pages_of(content)
    return kind, list(read_pages)


def encode(kind: str, pages: Sequence[Page]) -> bytes:
    """Return the bytes of an image file of this kind with these pages: the inverse of `decode`."""
    file = io.BytesIO()
    if kind == "npy":
        np.save(file, pages[0].pixels)
    elif kind == "npz":
        save_arrays(file, ((page.array_name, page.pixels) for page in pages))
    else:
        return FORMATS[kind].write(pages)
    return file.getvalue()
