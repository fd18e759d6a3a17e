"""The compressions of TIFF: `decompress` and `compress` the strips or tiles of one plane of pixels.

All of them lie below each other: a plane is bytes of `(rows, row_bytes)`, and each segment (a strip or a tile) has
`segment_rows` of them; the last one may have fewer. Pillow's libtiff does the work for most compressions. It gets a
file of one plain grey image, so that it never has to know what the bytes mean.
"""

import io
import struct
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from keras_dae.images.jpeg import has_known_sampling, jpeg_options

NONE, CCITT_RLE, GROUP3, GROUP4, LZW, JPEG, PACKBITS = 1, 2, 3, 4, 5, 7, 32773
DEFLATE = (8, 32946)
BY_LIBTIFF = {CCITT_RLE: "tiff_ccitt", GROUP3: "group3", GROUP4: "group4", LZW: "tiff_lzw", PACKBITS: "packbits",
              34925: "lzma", 50000: "zstd"}  # fmt: skip
NAMES = {6: "old JPEG", 32809: "ThunderScan", 33003: "JPEG 2000", 33005: "JPEG 2000", 34712: "JPEG 2000",
         34887: "LERC", 34933: "PNG", 34934: "JPEG XR", 50001: "WebP", 50002: "JPEG XL", 52546: "JPEG XL"}  # fmt: skip
WITH_PREDICTOR = (LZW, *DEFLATE, 34925, 50000)
MAX_BATCH_BYTES = 2**26  # of what libtiff unpacks at a time


class Plane(NamedTuple):
    """What the compressions need to know of a plane.

    Attributes:
        compression: the tag's value.
        rows, row_bytes: of the plane.
        segment_rows: rows of a strip or tile.
        width, samples: pixels in a row, and values in a pixel.
        bits: of a value.
        t4_options: the tag's value, for Group 3.
        jpeg_tables: the tag's value, for JPEG.
        is_ycbcr: whether a JPEG's colours are coded as YCbCr.
    """

    compression: int
    rows: int
    row_bytes: int
    segment_rows: int
    width: int
    samples: int
    bits: int
    t4_options: int = 0
    jpeg_tables: bytes = b""
    is_ycbcr: bool = False


def check_compression(plane: Plane) -> None:
    """Raise `ValueError` if the compression is not supported, or not for such pixels."""
    name = NAMES.get(plane.compression, f"compression {plane.compression}")
    if plane.compression in (NONE, *DEFLATE, *BY_LIBTIFF):
        if plane.compression <= GROUP4 and plane.compression != NONE and (plane.bits, plane.samples) != (1, 1):
            raise ValueError(f"cannot read a TIFF of {plane.bits}-bit pixels compressed for fax; it must be 1 bit")
    elif plane.compression != JPEG:
        raise ValueError(f"cannot read a TIFF compressed with {name}; save it with LZW or Deflate")
    elif plane.bits != 8 or plane.samples not in (1, 3):
        raise ValueError(
            f"cannot read a TIFF of {plane.samples} {plane.bits}-bit channels compressed with JPEG; save it with LZW"
        )


def decompress(plane: Plane, segments: Sequence[bytes]) -> bytes:
    """Return the bytes of a plane. Raises `OSError` if a segment is damaged."""
    if plane.compression == NONE:
        content = b"".join(segments)
    elif plane.compression in DEFLATE:
        content = b"".join(_inflate(segment, size) for segment, size in zip(segments, _segment_sizes(plane)))
    elif plane.compression == JPEG:
        content = b"".join(_read_jpeg(plane, segment).tobytes() for segment in segments)
    else:
        batch = max(1, MAX_BATCH_BYTES // (plane.row_bytes * plane.segment_rows))
        content = b"".join(
            _libtiff_decode(plane, segments[first : first + batch], first) for first in range(0, len(segments), batch)
        )
    expected = plane.rows * plane.row_bytes
    if len(content) != expected:
        raise OSError(f"expected {expected:,} bytes of pixels, got {len(content):,}: the TIFF is damaged")
    return content


def compress(plane: Plane, content: bytes, old_segments: Sequence[bytes]) -> list[bytes]:
    """Return the segments of a plane, from its bytes. A JPEG gets the tables and the sampling of the old segment."""
    size = plane.segment_rows * plane.row_bytes
    parts = [content[first : first + size] for first in range(0, len(content), size)]
    if plane.compression == NONE:
        return parts
    if plane.compression in DEFLATE:
        return [zlib.compress(part) for part in parts]
    if plane.compression == JPEG:
        return [_write_jpeg(plane, part, old) for part, old in zip(parts, old_segments)]
    batch = max(1, MAX_BATCH_BYTES // size)
    segments = []
    for first in range(0, len(parts), batch):
        segments += _libtiff_encode(plane, b"".join(parts[first : first + batch]))
    return segments


def _segment_sizes(plane: Plane) -> list[int]:
    starts = range(0, plane.rows, plane.segment_rows)
    return [min(plane.segment_rows, plane.rows - start) * plane.row_bytes for start in starts]


def _inflate(segment: bytes, size: int) -> bytes:
    try:
        return zlib.decompressobj().decompress(segment, size)
    except zlib.error as error:
        raise OSError(f"the TIFF is damaged: {error}") from None


def _libtiff_decode(plane: Plane, segments: Sequence[bytes], first: int) -> bytes:
    """Return the bytes of some consecutive segments."""
    rows = min(len(segments) * plane.segment_rows, plane.rows - first * plane.segment_rows)
    is_fax = plane.compression <= GROUP4
    counts = [len(segment) for segment in segments]
    offsets = np.cumsum([8, *counts])
    tags = {256: [plane.width if is_fax else plane.row_bytes], 257: [rows], 258: [1 if is_fax else 8],
            259: [plane.compression], 262: [1], 273: offsets[:-1].tolist(), 277: [1], 278: [plane.segment_rows],
            279: counts}  # fmt: skip
    if plane.compression == GROUP3:
        tags[292] = [plane.t4_options]
    file = b"II*\0" + struct.pack("<I", offsets[-1]) + b"".join(segments) + _directory(tags, int(offsets[-1]))
    with Image.open(io.BytesIO(file), formats=["TIFF"]) as image:
        return image.tobytes()


def _directory(tags: dict[int, list[int]], start: int) -> bytes:
    """Return a directory of LONG tags that stands at `start`."""
    entries, values = [], b""
    values_start = start + 2 + 12 * len(tags) + 4
    for code, numbers in sorted(tags.items()):
        packed = struct.pack(f"<{len(numbers)}I", *numbers)
        if len(numbers) > 1:
            packed, values = struct.pack("<I", values_start + len(values)), values + packed
        entries.append(struct.pack("<HHI", code, 4, len(numbers)) + packed)
    return struct.pack("<H", len(tags)) + b"".join(entries) + bytes(4) + values


def _libtiff_encode(plane: Plane, content: bytes) -> list[bytes]:
    rows = len(content) // plane.row_bytes
    is_fax = plane.compression <= GROUP4
    image = Image.frombytes(*(("1", (plane.width, rows)) if is_fax else ("L", (plane.row_bytes, rows))), content)
    tags = {278: min(plane.segment_rows, rows), **({292: plane.t4_options} if plane.compression == GROUP3 else {})}
    file = io.BytesIO()
    image.save(file, "TIFF", compression=BY_LIBTIFF[plane.compression], tiffinfo=tags)
    written = file.getvalue()
    with TiffImageFile(io.BytesIO(written)) as image:
        return [written[offset : offset + count] for offset, count in zip(image.tag_v2[273], image.tag_v2[279])]


def _open_jpeg(plane: Plane, segment: bytes) -> Image.Image:
    """Open a JPEG segment as a file of its own: with its tables, and with a marker that names its colours."""
    adobe = b"\xff\xee\0\x0eAdobe\0\x64" + bytes(4) + bytes([plane.is_ycbcr]) if plane.samples == 3 else b""
    whole = b"\xff\xd8" + adobe + plane.jpeg_tables[2:-2] + segment[2:]
    image = Image.open(io.BytesIO(whole), formats=["JPEG"])
    if image.mode != ("L" if plane.samples == 1 else "RGB"):
        raise ValueError(f"cannot read a TIFF with a JPEG of mode {image.mode} in it; save it with LZW")
    return image


def _read_jpeg(plane: Plane, segment: bytes) -> np.ndarray:
    with _open_jpeg(plane, segment) as image:
        if image.width * plane.samples != plane.row_bytes or image.height > plane.segment_rows:
            raise OSError(f"expected {plane.width} pixels in a row of a JPEG, got {image.size}: the TIFF is damaged")
        if plane.samples == 3 and not has_known_sampling(image):
            raise ValueError("cannot read a TIFF with a JPEG of this chroma sampling in it; save it with LZW")
        return np.asarray(image)


def _write_jpeg(plane: Plane, content: bytes, old: bytes) -> bytes:
    pixels = np.frombuffer(content, np.uint8).reshape(-1, plane.width, plane.samples)
    with _open_jpeg(plane, old) as image:
        options = jpeg_options(image)
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if plane.samples == 1 else pixels).save(file, "JPEG", **options)
    return file.getvalue()
