"""BMP files: read, and written by replacing the pixels in a copy of the input. So all else is kept."""

import io
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_dae.images.page import Page, check_size, image_of, open_as, pixels_of, to_palette
from keras_dae.images.sample_bits import pack_bits, unpack_bits

RESOLUTION = slice(38, 46)  # of a file that is compressed: its place
PLAIN_HEADER = 40  # bytes of a header without a colour space


class _Form(NamedTuple):
    """A file whose pixels are not compressed, and where they lie in it.

    Attributes:
        content: of the file.
        layout: Pillow's name, such as `BGRA`; for pixels that are indices, `1` or `L` without and `P` with a palette.
        bits: of a pixel.
        start, row_bytes: of the pixels.
        is_top_down: whether the first row comes first.
        palette_start, palette_step: place of the palette, and bytes of a colour.
        colours: how many colours the palette has.
    """

    content: bytes
    layout: str
    bits: int
    start: int
    row_bytes: int
    is_top_down: bool
    palette_start: int
    palette_step: int
    colours: int


def read(content: bytes) -> Iterator[Page]:
    """Yield the page of a BMP file. Raises `OSError` if it is damaged, and `ValueError` if it is not supported."""
    with open_as("BMP", content) as image:
        check_size(image.width, image.height)
        form = _form(content, image)
        if form and form.bits <= 8:
            mode, pixels = _look_up(form, image.width, image.height)
        else:
            mode, pixels = image.mode, pixels_of(image)
    if form is None and mode == "1":  # Pillow misreads the decompressed indices
        raise ValueError("cannot read a run-length encoded BMP of two colours; save it as PNG")
    lost: tuple[str, ...] = ()
    if form is None and int.from_bytes(content[14:18], "little") > PLAIN_HEADER:
        lost = ("the colour space of the run-length encoded BMP",)
    yield Page(pixels, mode, form or content[RESOLUTION], lost=lost)


def write(pages: Sequence[Page]) -> bytes:
    """Return the content of a BMP file: the inverse of `read`. What was run-length encoded is not any more."""
    (page,) = pages
    if isinstance(page.form, bytes):
        file = io.BytesIO()
        image = image_of(page)
        (image.quantize() if page.mode == "P" else image).save(file, "BMP")
        content = bytearray(file.getvalue())
        content[RESOLUTION] = page.form
        return bytes(content)
    form: _Form = page.form
    content = bytearray(form.content)
    rows = _rows(form, content, len(page.pixels))
    if form.bits <= 8:
        indices = page.pixels
        if form.layout == "P":
            indices, palette = to_palette(page.pixels, form.colours)
            entries = _palette(form, content)
            entries[: len(palette), :3] = palette[:, ::-1]
        packed = pack_bits(indices.astype(np.uint8), form.bits)
    elif form.bits == 16:
        green_bits = 6 if form.layout == "BGR;16" else 5
        unused = rows[:, 1 : 2 * page.pixels.shape[1] : 2] & 0x80  # which may be alpha
        packed = _pack_16(page.pixels, green_bits)
        if green_bits == 5:
            packed[:, 1::2] |= unused
    else:
        packed = _replace_channels(rows, page.pixels, form.layout)
    rows[:, : packed.shape[1]] = packed
    return bytes(content)


def orientation(content: bytes, page: Page) -> int:
    """Return 1: the pixels are read upright."""
    return 1


def _form(content: bytes, image: Any) -> _Form | None:
    """Return where the pixels are; None for a compressed file."""
    decoder, _, start, arguments = image.tile[0]
    if decoder != "raw":
        return None
    layout, row_bytes, direction = arguments
    header_size = int.from_bytes(content[14:18], "little")
    is_old = header_size == 12
    bits = int.from_bytes(content[24:26] if is_old else content[28:30], "little")
    colours = 0 if is_old else int.from_bytes(content[46:50], "little")
    step = 3 if is_old else 4
    palette_start = 14 + header_size
    colours = min(colours or 2**bits, 2**bits, (start - palette_start) // step) if bits <= 8 else 0
    # Pillow calls every palette of rising grey `L`, also a short one. For other depths, its name may be wrong.
    if bits <= 8 and (layout, bits, colours) not in (("1", 1, 2), ("L", 8, 256)):
        layout = "P"
    return _Form(content, layout, bits, start, row_bytes, direction == 1, palette_start, step, colours)


def _rows(form: _Form, content: bytes | bytearray, height: int) -> np.ndarray:
    """Return a view of the rows of a file: bytes `(height, row_bytes)`, the upper row first."""
    size = height * form.row_bytes
    if len(content) < form.start + size:
        raise OSError(f"expected {size:,} bytes of pixels, got {len(content) - form.start:,}: the BMP is damaged")
    rows = np.frombuffer(content, np.uint8, size, form.start).reshape(height, form.row_bytes)
    return rows if form.is_top_down else rows[::-1]


def _palette(form: _Form, content: bytes | bytearray) -> np.ndarray:
    """Return a view of the palette: bytes `(colours, 3 or 4)`, blue, green and red first."""
    size = form.colours * form.palette_step
    return np.frombuffer(content, np.uint8, size, form.palette_start).reshape(-1, form.palette_step)


def _look_up(form: _Form, width: int, height: int) -> tuple[str, np.ndarray]:
    """Return the mode and the pixels of a file with a palette."""
    indices = unpack_bits(_rows(form, form.content, height), form.bits, width)
    palette = _palette(form, form.content)[:, 2::-1]
    if indices.max() >= len(palette):
        raise OSError(f"expected at most {len(palette)} colours, got the number {indices.max()}: the BMP is damaged")
    if form.layout == "P":
        return "P", palette[indices]
    return form.layout, indices.astype(bool) if form.layout == "1" else indices


def _pack_16(pixels: np.ndarray, green_bits: int) -> np.ndarray:
    """Return the bytes of pixels of 5 bits for red and blue, and 5 or 6 for green."""
    red, green, blue = (
        np.rint(pixels[..., channel] / 255 * (2**bits - 1)).astype("<u2")
        for channel, bits in enumerate((5, green_bits, 5))
    )
    return (red << (5 + green_bits) | green << 5 | blue).view(np.uint8)


def _replace_channels(rows: np.ndarray, pixels: np.ndarray, layout: str) -> np.ndarray:
    """Return the bytes of pixels of 24 or 32 bits. Bytes of no channel stay as they are."""
    height, width, _ = pixels.shape
    channels = rows[:, : width * len(layout)].reshape(height, width, len(layout)).copy()
    for index, name in enumerate(layout):
        if name != "X":
            channels[..., index] = pixels[..., "RGBA".index(name)]
    return channels.reshape(height, -1)
