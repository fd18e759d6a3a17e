"""PNG files: read, and written with all chunks of the input that still hold."""

import io
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from keras_dae.images.page import (
    ALPHA_MODES,
    Page,
    check_size,
    image_of,
    open_as,
    orientation_of,
    pixels_of,
    to_palette,
)
from keras_dae.images.sample_bits import pack_bits

SIGNATURE = b"\x89PNG\r\n\x1a\n"
READ_BY_PILLOW = (
    b"IHDR",
    b"PLTE",
    b"tRNS",
    b"IDAT",
    b"IEND",
)  # the others may be large, and Pillow would refuse the file
WITH_ORIENTATION = (
    b"eXIf",
    b"iTXtXML:com.adobe.xmp\0\0",
    b"tEXtRaw profile type exif\0",
    b"zTXtRaw profile type exif\0",
)
WRITTEN_BY_PILLOW = (*READ_BY_PILLOW, b"acTL", b"fcTL", b"fdAT")
BEFORE_PALETTE = (b"cHRM", b"gAMA", b"iCCP", b"sBIT", b"sRGB", b"cICP", b"mDCV", b"cLLI", b"mDCv", b"cLLi")
OF_THE_PALETTE = {b"bKGD": "background colour", b"hIST": "histogram", b"sBIT": "significant bits"}


class _Chunk(NamedTuple):
    name: bytes
    whole: bytes  # its length, its name, its data and its checksum

    @property
    def data(self) -> bytes:
        return self.whole[8:-4]


class _Form(NamedTuple):
    """What an output has of its input: chunks that stand before the palette, before and after the pixels."""

    before_palette: list[_Chunk]
    before_pixels: list[_Chunk]
    after_pixels: list[_Chunk]
    grey_bits: int  # 2 or 4 for grey files of these depths, which Pillow does not write


def _open(chunks: Sequence[_Chunk]) -> Image.Image:
    """Check the header, and open the pixels' chunks."""
    for chunk in chunks:
        if not chunk.name[0] & 32 and chunk.name not in READ_BY_PILLOW:  # critical, by the standard
            raise ValueError(f"cannot read a PNG with the chunk {chunk.name.decode('latin-1')}; save it anew")
    depth, colours = _depth_and_colours(chunks)
    for chunk in chunks:
        if chunk.name == b"acTL" and (frames := int.from_bytes(chunk.data[:4])) > 1:
            raise ValueError(f"expected still images, got an animation of {frames}")
    if depth == 16 and colours != 0:
        raise ValueError(
            "expected 8 bits per channel, or 16-bit grey; got 16-bit colour or alpha, of which Pillow reads only 8 bits"
        )
    needed = b"".join(chunk.whole for chunk in chunks if chunk.name in READ_BY_PILLOW)
    return open_as("PNG", SIGNATURE + needed)


def _check_palette(chunks: Sequence[_Chunk], image: Image.Image) -> None:
    """Raise `OSError` if pixels are numbers of colours that the palette does not have."""
    colours = next((len(chunk.data) // 3 for chunk in chunks if chunk.name == b"PLTE"), 0)
    if image.mode == "P" and (number := int(np.asarray(image).max())) >= colours:
        raise OSError(f"expected at most {colours} colours, got the number {number}: the PNG is damaged")


def read(content: bytes) -> Iterator[Page]:
    """Yield the page of a PNG file. Raises `OSError` if it is damaged, and `ValueError` if it is not supported."""
    chunks = list(_chunks(content))
    with _open(chunks) as image:
        check_size(image.width, image.height)
        _check_palette(chunks, image)
        depth, colours = _depth_and_colours(chunks)
        if "transparency" in image.info and colours == 0 and depth < 8:  # Pillow scales only the pixels
            stored = next(int.from_bytes(chunk.data[:2]) for chunk in chunks if chunk.name == b"tRNS")
            white = 2**depth - 1
            image.info["transparency"] = (stored & white) * 255 // white
        pixels = pixels_of(image)
    form, lost = _form(chunks, "transparency" in image.info)
    if rest := len(content[len(SIGNATURE) + sum(len(chunk.whole) for chunk in chunks) :].strip(b"\0")):
        lost = (*lost, f"{rest:,} bytes after the picture")
    mode = image.mode if image.mode == "P" or "transparency" not in image.info else ALPHA_MODES[image.mode]
    yield Page(pixels, mode, form, white=_declared_white(chunks, pixels), lost=lost)


def write(pages: Sequence[Page]) -> bytes:
    """Return the content of a PNG file: the inverse of `read`."""
    (page,) = pages
    made = _encode(page)
    parts = [SIGNATURE]
    parts += [chunk.whole for chunk in made if chunk.name == b"IHDR"]
    parts += [chunk.whole for chunk in page.form.before_palette]
    parts += [chunk.whole for chunk in made if chunk.name in (b"PLTE", b"tRNS")]
    parts += [chunk.whole for chunk in page.form.before_pixels]
    parts += [chunk.whole for chunk in made if chunk.name == b"IDAT"]
    parts += [chunk.whole for chunk in page.form.after_pixels]
    return b"".join([*parts, _chunk(b"IEND", b"").whole])


def orientation(content: bytes, page: Page) -> int:
    """Return how a viewer turns the picture: EXIF's number."""
    chunks = list(_chunks(content))
    exif = b"".join(chunk.whole for chunk in chunks[1:] if chunk.whole[4:].startswith(WITH_ORIENTATION))
    if not exif:
        return 1
    others = b"".join(chunk.whole for chunk in chunks[1:] if chunk.name in READ_BY_PILLOW)
    with open_as("PNG", SIGNATURE + chunks[0].whole + exif + others) as image:
        return orientation_of(image)


def _encode(page: Page) -> list[_Chunk]:
    """Return the chunks of a file with the page's pixels."""
    if page.form.grey_bits:
        return _encode_grey(page.pixels, page.form.grey_bits)
    if page.mode == "P":
        indices, palette = to_palette(page.pixels)
        image = Image.fromarray(indices)
        image.putpalette(palette.tobytes(), "RGB" if palette.shape[1] == 3 else "RGBA")
    else:
        image = image_of(page)
    file = io.BytesIO()
    image.save(file, "PNG")
    return list(_chunks(file.getvalue()))


def _encode_grey(pixels: np.ndarray, bits: int) -> list[_Chunk]:
    """Return the chunks of a grey file of 2 or 4 bits per pixel."""
    height, width = pixels.shape
    values = np.rint(pixels / 255 * (2**bits - 1)).astype(np.uint8)
    rows = np.pad(pack_bits(values, bits), ((0, 0), (1, 0)))  # each row begins with its filter, 0
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    return [_chunk(b"IHDR", header), _chunk(b"IDAT", zlib.compress(rows.tobytes()))]


def _chunk(name: bytes, data: bytes) -> _Chunk:
    whole = struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    return _Chunk(name, whole)


def _chunks(content: bytes) -> Iterator[_Chunk]:
    """Yield the chunks of a PNG file up to its end. Raises `OSError` if there are none, or one is damaged."""
    position = len(SIGNATURE)
    while position < len(content):
        end = position + 12 + int.from_bytes(content[position : position + 4])
        whole = content[position:end]
        name = whole[4:8]
        is_pixels = name == b"IDAT"  # which Pillow checks, and may be cut
        if not is_pixels and (len(whole) != end - position or whole[-4:] != zlib.crc32(whole[4:-4]).to_bytes(4)):
            raise OSError(f"the PNG is damaged or cut at byte {position:,}")
        yield _Chunk(name, whole)
        if name == b"IEND":
            return
        position = end


def _depth_and_colours(chunks: Sequence[_Chunk]) -> tuple[int, int]:
    """Return the bit depth and the colour type of the header."""
    if not chunks or chunks[0].name != b"IHDR" or len(chunks[0].data) != 13:
        raise OSError("expected a PNG to begin with its header: it is damaged")
    return chunks[0].data[8], chunks[0].data[9]


def _form(chunks: Sequence[_Chunk], has_transparent_colour: bool) -> tuple[_Form, tuple[str, ...]]:
    """Divide the chunks that are kept by their places; return also what is not kept."""
    depth, colours = _depth_and_colours(chunks)
    changes_colours = colours == 3 or has_transparent_colour  # the output has another palette, or alpha
    lost = []
    form = _Form([], [], [], depth if colours == 0 and depth in (2, 4) and not has_transparent_colour else 0)
    is_after = False
    for chunk in chunks:
        is_after = is_after or chunk.name == b"IDAT"
        is_unsafe = not chunk.name[3] & 32 and chunk.name not in (*BEFORE_PALETTE, *OF_THE_PALETTE, b"tIME")
        if chunk.name in WRITTEN_BY_PILLOW:
            if chunk.name == b"acTL":
                lost.append("the animation")
            if chunk.name == b"PLTE" and colours != 3:
                lost.append("the suggested palette")
        elif chunk.name in OF_THE_PALETTE and (changes_colours or chunk.name == b"hIST"):
            lost.append(f"the {OF_THE_PALETTE[chunk.name]}")
        elif is_unsafe:
            lost.append(f"the chunk {chunk.name.decode('latin-1')}, which depends on the pixels")
        elif is_after:
            form.after_pixels.append(chunk)
        elif chunk.name in BEFORE_PALETTE:
            form.before_palette.append(chunk)
        else:
            form.before_pixels.append(chunk)
    return form, tuple(dict.fromkeys(lost))


def _declared_white(chunks: Sequence[_Chunk], pixels: np.ndarray) -> int | None:
    """Return the largest value of 9 to 15 significant bits, if the pixels are of 16 bits and fit into them.

    By the standard, such pixels are scaled to 16 bits, and the whole range is used. Not all programs do that.
    """
    bits = next((chunk.data[0] for chunk in chunks if chunk.name == b"sBIT" and chunk.data), 16)
    fits = pixels.dtype == np.uint16 and 8 < bits < 16 and pixels.max() < 2**bits
    return 2**bits - 1 if fits else None
