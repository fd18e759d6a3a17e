"""WebP files: read, and written lossless or lossy as the input is, with its EXIF, XMP and colour profile."""

import io
from collections.abc import Iterator, Sequence
from typing import Any

from keras_dae.images.page import Page, check_size, image_of, open_as, orientation_of, pixels_of

LOSSY_QUALITY = 95  # of 100; the file does not say which one it was saved with
METADATA = {b"EXIF": "exif", b"XMP ": "xmp", b"ICCP": "icc_profile"}  # chunk -> argument of Pillow's `save`
PIXELS = (b"VP8X", b"VP8 ", b"VP8L", b"ALPH")  # chunks of the picture, which are written anew


def read(content: bytes) -> Iterator[Page]:
    """Yield the page of a WebP file. Raises `OSError` if it is damaged, and `ValueError` if it is not supported."""
    end = 8 + int.from_bytes(content[4:8], "little")
    if len(content) < end:
        raise OSError(f"the WebP is cut: expected {end:,} bytes, got {len(content):,}")
    chunks = list(_chunks(content[:end]))
    if frames := chunks.count(b"ANMF"):
        raise ValueError(f"expected still images, got an animation of {frames}")
    with open_as("WebP", content[:end]) as image:
        check_size(image.width, image.height)
        pixels = pixels_of(image)
    form: dict[str, Any] = {key: image.info[key] for key in METADATA.values() if key in image.info}
    if b"VP8L" in chunks:
        form["lossless"] = True
    # Readers ignore metadata that the header does not announce.
    others = [name for name in chunks if name not in PIXELS and METADATA.get(name) not in form]
    lost = [f"the chunk {name.decode('latin-1')}" for name in others]
    if rest := len(content[end:].strip(b"\0")):
        lost.append(f"{rest:,} bytes after the picture")
    yield Page(pixels, image.mode, form, lost=tuple(lost))


def write(pages: Sequence[Page]) -> bytes:
    """Return the content of a WebP file: the inverse of `read`."""
    (page,) = pages
    file = io.BytesIO()
    # `exact` keeps the colours of transparent pixels.
    image_of(page).save(file, "WEBP", quality=LOSSY_QUALITY, exact=True, **page.form)
    return file.getvalue()


def orientation(content: bytes, page: Page) -> int:
    """Return how a viewer turns the picture: EXIF's number."""
    with open_as("WebP", content) as image:
        return orientation_of(image)


def _chunks(content: bytes) -> Iterator[bytes]:
    """Yield the name of each chunk of a WebP file."""
    position = 12
    while position + 8 <= len(content):
        yield content[position : position + 4]
        size = int.from_bytes(content[position + 4 : position + 8], "little")
        position += 8 + size + size % 2
