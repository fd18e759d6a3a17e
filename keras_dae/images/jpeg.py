"""JPEG files: read, and written with the tables, the sampling and the segments of the input."""

import io
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_dae.images.page import Page, check_size, image_of, open_as, orientation_of, pixels_of

SAMPLINGS = {((1, 1), (1, 1), (1, 1)): 0, ((2, 1), (1, 1), (1, 1)): 1, ((2, 2), (1, 1), (1, 1)): 2}  # Pillow's numbers
APP0, APP14, APP15, COMMENT, SCAN, END = 0xE0, 0xEE, 0xEF, 0xFE, 0xDA, 0xD9  # the markers' codes
KINDS = {
    0xC3: "lossless",
    0xC5: "hierarchical",
    0xC6: "hierarchical",
    0xC7: "hierarchical",
    0xCB: "lossless",
    0xCD: "hierarchical",
    0xCE: "hierarchical",
    0xCF: "hierarchical",
    0xF7: "JPEG-LS",
}  # not read
FRAMES = (0xC0, 0xC1, 0xC2, 0xC9, 0xCA, *KINDS)
MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd8\xff])")  # of a segment with a length, or of the end


class _Form(NamedTuple):
    """What an output has of its input: arguments of Pillow's `save`, and segments of the header."""

    options: dict[str, Any]
    segments: list[bytes]


def _pixels(image: Any) -> np.ndarray:
    """Return the pixels of a JPEG. Pillow takes all CMYK for Adobe's, which are stored as negatives."""
    pixels = pixels_of(image)
    return 255 - pixels if image.mode == "CMYK" and "adobe" not in image.info else pixels


def read(content: bytes) -> Iterator[Page]:
    """Yield the page of a JPEG file. Raises `OSError` if it is damaged, and `ValueError` if it is not supported."""
    _check_kind(content)
    with open_as("JPEG", content) as image:
        check_size(image.width, image.height)
        pixels, options = _pixels(image), jpeg_options(image)
    lost = []
    if not has_known_sampling(image):
        lost.append("the chroma sampling (the output has full resolution)")
    if rest := len(content[_end(content) :].strip(b"\0\xff")):
        lost.append(f"{rest:,} bytes after the picture, such as a preview or a video")
    kept = [segment for segment in _segments(content) if segment[4:8] != b"MPF\0"]  # the list of the further pictures
    yield Page(pixels, image.mode, _Form(options, kept), lost=tuple(lost))


def write(pages: Sequence[Page]) -> bytes:
    """Return the content of a JPEG file: the inverse of `read`."""
    form = pages[0].form
    file = io.BytesIO()
    image_of(pages[0]).save(file, "JPEG", **form.options)
    content = file.getvalue()
    own = _segments(content)
    own_codes = [segment[1] for segment in own]
    # The segments that say how colours are coded are Pillow's: Adobe's, and whether there is a JFIF segment.
    kept = [segment for segment in form.segments if segment[1] != APP14 and (segment[1] != APP0 or APP0 in own_codes)]
    adobe = [segment for segment in own if segment[1] == APP14]
    return content[:2] + b"".join(kept + adobe) + content[2 + sum(map(len, own)) :]


def orientation(content: bytes, page: Page) -> int:
    """Return how a viewer turns the picture: EXIF's number."""
    with open_as("JPEG", content) as image:
        return orientation_of(image)


def jpeg_options(image: Any) -> dict[str, Any]:
    """Return the arguments of Pillow's `save` that give a JPEG the tables and the sampling of this JPEG."""
    tables = [image.quantization[number] for *_, number in image.layer]  # of each channel
    while len(tables) > 1 and tables[-1] == tables[-2]:
        tables.pop()  # the last table is for all further channels
    if image.info.get("adobe_transform") == 2:  # YCCK, which becomes CMYK: all of its channels are like the first
        del tables[1:]
    has_rgb = len(image.layer) == 3 and (
        image.info.get("adobe_transform") == 0 or bytes(channel for channel, *_ in image.layer) == b"RGB"
    )
    return {
        "qtables": tables,
        "subsampling": SAMPLINGS.get(_sampling(image), 0),
        "progressive": bool(image.info.get("progressive")),
        "keep_rgb": has_rgb,
    }


def has_known_sampling(image: Any) -> bool:
    """Return whether Pillow can write the chroma sampling of this JPEG."""
    sampling = _sampling(image)
    return len(sampling) == 1 or set(sampling) == {(1, 1)} or sampling in SAMPLINGS


def _check_kind(content: bytes) -> None:
    """Raise `ValueError` if the first frame of a JPEG is of a kind that is not read."""
    for code, start, _ in _markers(content, 2):
        if code in FRAMES:
            bits = content[start + 4 : start + 5]
            kind = KINDS.get(code, f"{bits[0]}-bit" if bits and bits[0] != 8 else "")
            if kind:
                raise ValueError(f"cannot read a JPEG that is {kind}; save it as PNG")
            return


def _sampling(image: Any) -> tuple:
    return tuple((across, down) for _, across, down, _ in image.layer)


def _segments(content: bytes) -> list[bytes]:
    """Return the application segments and comments of a JPEG file that stand before its pixels."""
    segments = []
    for code, start, end in _markers(content, 2):
        if code in (SCAN, END):
            break
        is_whole = start + 4 <= end <= len(content)  # Pillow steps over some that are damaged
        if is_whole and (APP0 <= code <= APP15 or code == COMMENT):
            segments.append(content[start:end])
    return segments


def _end(content: bytes) -> int:
    """Return where the first picture of a JPEG file ends."""
    return next((end for code, _, end in _markers(content, 2) if code == END), len(content))


def _markers(content: bytes, position: int) -> Iterator[tuple[int, int, int]]:
    """Yield the segments of a JPEG file and its end: `(code, start, end)`. Pixels are stepped over."""
    while match := MARKER.search(content, position):
        start, position = match.start(), match.end()
        if match[1][0] != END:
            position += int.from_bytes(content[position : position + 2])
        yield match[1][0], start, position
