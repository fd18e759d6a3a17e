"""What the tags of a TIFF say about its pixels. What is not surely understood is refused by name."""

import contextlib
import io
import logging
import math
import re
import struct
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from keras_dae.errors import first_line
from keras_dae.images.tiff_codecs import JPEG, NONE, PACKBITS, WITH_PREDICTOR, Plane, check_compression

WHITE_IS_ZERO, RGB, PALETTE, MASK, CMYK, YCBCR, LAB, ICC_LAB = 0, 2, 3, 4, 5, 6, 8, 9
COLOURS = {WHITE_IS_ZERO: 1, 1: 1, RGB: 3, PALETTE: 1, MASK: 1, CMYK: 4, YCBCR: 3, LAB: 3, ICC_LAB: 3}
PHOTOMETRIC_NAMES = {-1: "no stated photometric interpretation", 10: "ITU Lab", 32844: "LogL", 32845: "LogLuv"}
RAW = (32803, 34892)  # photometric interpretation of a camera's raw pixels: colour filter array, linear raw
ALPHA = (1, 2, 999)  # of ExtraSamples; Corel Draw writes 999
FORMATS = {1: "u", 2: "i", 3: "f", 4: "u"}  # SampleFormat -> NumPy's kind of type; 4 is undefined
TYPE_NAMES = {"u": "unsigned integers", "i": "signed integers", "f": "floats"}
WHOLE_BITS = {"u": (*range(1, 33), 64), "i": (8, 16, 32, 64), "f": (16, 32, 64)}  # of the types that are read
MAX_PAGE_BYTES = 2**32  # of the unpacked pixels of a page
LOST = {  # tag -> what the output does not hold
    37724: "the layers of Photoshop, which are not denoised",
    42113: "the meaning of GDAL's nodata value, because such pixels are measured and denoised like others",
}
LUMA = (0.299, 0.587, 0.114)  # of red, green and blue, as YCbCr usually has them
CMYK_INKS = 1


_QUIET = logging.NullHandler()


class Layout(NamedTuple):
    """How a page's pixels are stored.

    Attributes:
        content: of the file.
        directory: the place of the page's directory in the file.
        offsets, counts: of the strips or tiles.
        plane: what the compression needs to know.
        tile: `(height, width)` of a tile; None for strips.
        width, height: of the image.
        samples: values in a pixel.
        is_planar: whether each sample has a plane of its own.
        kind, bits, order: NumPy's letter of the samples' type, their bits, and their byte order.
        predictor: the tag's value.
        reverses_bits: whether the lowest bit of each byte comes first.
        photometric: the tag's value.
        has_usual_colours: whether CMYK is cyan, magenta, yellow and black, and YCbCr is as in JPEG.
        alpha: which samples are alpha; `is_premultiplied` says how.
        orientation: the tag's value.
        colour_map: the tag's value, for palettes.
        declared_white: the largest value, if a tag declares 9 to 15 bits.
        lost: what the output does not hold.
    """

    content: bytes
    directory: int
    offsets: tuple[int, ...]
    counts: tuple[int, ...]
    plane: Plane
    tile: tuple[int, int] | None
    width: int
    height: int
    samples: int
    is_planar: bool
    kind: str
    bits: int
    order: str
    predictor: int
    reverses_bits: bool
    photometric: int
    has_usual_colours: bool
    alpha: tuple[int, ...]
    is_premultiplied: bool
    orientation: int
    colour_map: tuple[int, ...]
    declared_white: int | None
    lost: tuple[str, ...]

    @property
    def offsets_tag(self) -> int:
        """The tag with `offsets`."""
        return 324 if self.tile else 273

    @property
    def counts_tag(self) -> int:
        """The tag with `counts`."""
        return 325 if self.tile else 279

    @property
    def planes(self) -> int:
        """How many planes of pixels there are: one for all samples, or one for each."""
        return self.samples if self.is_planar else 1

    @property
    def segments(self) -> list[bytes]:
        """The stored strips or tiles, plane after plane."""
        return [self.content[offset : offset + count] for offset, count in zip(self.offsets, self.counts)]


@contextlib.contextmanager
def open_tiff(file: BinaryIO) -> Iterator[tuple[Any, list[Any]]]:
    """Open a TIFF; give `(tifffile.TiffFile, its directories)`. Sub-directories stand after the one that names them.

    Raises:
        OSError: the file is damaged.
    """
    import tifffile  # takes 0.1 s

    logging.getLogger("tifffile").addHandler(_QUIET)  # what it says about damaged tags is no error of ours
    # Without what tifffile does for these programs' files: each directory is taken for itself.
    try:
        tiff = tifffile.TiffFile(file, is_scanimage=False, is_ndpi=False, is_lsm=False)
        directories: list[Any] = []
        places: set[int] = set()
        waiting = list(tiff.pages)[::-1]
        while waiting:
            page = waiting.pop()
            if page.offset in places:
                raise OSError("the same directory stands twice in it")
            directories.append(page)
            places.add(page.offset)
            waiting += list(page.pages or ())[::-1]
    except Exception as error:  # noqa: BLE001 - tifffile raises exceptions of many types
        raise OSError(f"cannot read the directories of the TIFF: {first_line(error)}") from None
    with tiff:
        yield tiff, directories


def layouts_of(content: bytes) -> Iterator[Layout]:
    """Yield how the pixels of each page are stored. Pages of reduced resolution, such as a preview, come last.

    A stack that has one directory for many planes gives a layout for each plane.

    Raises:
        OSError: the file is damaged.
        ValueError: a page is of a kind that is not supported.
    """
    with open_tiff(io.BytesIO(content)) as (tiff, directories):
        if not directories:
            raise OSError("expected a TIFF with a directory, got none: it is damaged")
        _check_raw(content, directories)
        planes = _planes_of_directories(list(tiff.pages))
        for page in sorted(directories, key=_is_reduced):
            layout = _layout(content, tiff.byteorder, page)
            yield from _stack(layout, planes.get(page.offset, 1))
        if _next_directory(content, tiff, tiff.pages[-1].offset):
            raise OSError("the chain of the TIFF's directories does not end: it is damaged or cut")


def _is_reduced(page: Any) -> bool:
    """Return whether a directory says that it is another page's picture in a lower resolution."""
    return bool(page.tags.valueof(254, 0) & 1) or page.tags.valueof(255, 0) == 2


def _check_raw(content: bytes, directories: Sequence[Any]) -> None:
    """Raise `ValueError` if it is a camera's raw file, whose first picture is only a preview."""
    name = None
    if any(50706 in page.tags for page in directories):
        name = "a DNG"
    elif content[8:10] == b"CR":
        name = "a CR2"
    elif any(page.tags.valueof(262) in RAW for page in directories):
        name = "a TIFF with raw pixels"
    if name:
        raise ValueError(f"cannot read {name} of a camera; develop it with a raw converter, and save it as TIFF or PNG")


def _next_directory(content: bytes, tiff: Any, offset: int) -> int:
    """Return the place of the directory after the one at `offset`; 0 after the last one."""
    form = tiff.tiff
    (count,) = struct.unpack_from(form.tagnoformat, content, offset)
    (following,) = struct.unpack_from(form.offsetformat, content, offset + form.tagnosize + count * form.tagsize)
    return following


def _planes_of_directories(pages: Sequence[Any]) -> dict[int, int]:
    """Return how many planes a directory stands for: its place -> number, if that is more than one.

    Raises:
        ValueError: a description promises more planes than the file has directories, and it is no stack of one.
    """
    first = pages[0]
    promised = _promised_planes(first)
    if promised > len(pages) == 1:
        return {first.offset: promised}
    shaped = {page.offset: count for page in pages if (count := _shaped_planes(page))}
    if promised <= len(pages):
        truncated = {page.offset for page in pages if '"truncated": true' in page.description}
        promised = sum(1 if offset in truncated else count for offset, count in shaped.items())
        shaped = {offset: count for offset, count in shaped.items() if offset in truncated}
        if promised > len(pages) == 1:
            return {first.offset: promised}
    if promised > len(pages):
        raise ValueError(
            f"expected a TIFF of {promised} images, as its description says, got {len(pages)}: it is cut, or a part"
        )
    return shaped


def _promised_planes(page: Any) -> int:
    """Return how many planes the first directory says that the file has; 0 if it says nothing."""
    text = page.description
    if text.startswith("ImageJ="):
        found = re.search(r"^images=(\d+)", text, re.MULTILINE)
        return int(found[1]) if found else 1
    if 33629 in page.tags:  # MetaMorph's stack
        return page.tags[33629].count
    return _ome_planes(text) if text.rstrip().endswith("OME>") else 0


def _ome_planes(text: str) -> int:
    """Return how many planes OME's description promises; 0 if they may be in other files too."""
    try:
        root = ElementTree.fromstring(text.encode())
    except ElementTree.ParseError:
        return 0
    if len({uuid.get("FileName") for uuid in root.iterfind(".//{*}UUID")}) > 1:
        return 0
    planes = 0
    for pixels in root.iterfind(".//{*}Pixels"):
        samples = next((int(channel.get("SamplesPerPixel", 1)) for channel in pixels.iterfind("{*}Channel")), 1)
        planes += math.prod(int(pixels.get(f"Size{axis}", 1)) for axis in "ZCT") // samples
    return planes


def _shaped_planes(page: Any) -> int:
    """Return how many planes the description of tifffile promises from this page on; 0 if it is another description."""
    found = re.search(r'^\{.*"shape": ?\[([\d, ]+)\]|^shape=\(([\d, ]+)\)', page.description)
    if not found:
        return 0
    sizes = [int(size) for size in re.findall(r"\d+", found[1] or found[2])]
    pixel_count = page.tags.valueof(256, 1) * page.tags.valueof(257, 1) * page.tags.valueof(277, 1)
    return math.prod(sizes) // max(1, pixel_count)


def _layout(content: bytes, order: str, page: Any) -> Layout:
    """Return the layout of one directory."""

    def values(code: int, default: tuple = ()) -> tuple[int, ...]:
        value = page.tags.valueof(code)
        return (
            default if value is None else tuple(np.ravel(list(value) if isinstance(value, bytes) else value).tolist())
        )

    def value(code: int, default: int) -> int:
        return int(values(code, (default,))[0])

    width, height, compression = value(256, 0), value(257, 0), value(259, NONE)
    if width < 1 or height < 1:
        raise OSError(f"expected a TIFF of at least one pixel, got {width}×{height}: it is damaged")
    if value(32997, 1) > 1:
        raise ValueError(f"cannot read a TIFF with {value(32997, 1)} slices in a page (ImageDepth); save them as pages")
    all_bits, formats = values(258, (1,)), values(339, (1,))
    samples = value(277, len(all_bits))
    bits, kind = all_bits[0], FORMATS.get(formats[0], "c")
    _check_values(all_bits, formats)
    photometric = value(262, -1)
    is_jpeg_ycbcr = photometric == YCBCR and compression == JPEG
    if photometric == YCBCR and not is_jpeg_ycbcr and values(530, (2, 2)) != (1, 1):
        raise ValueError("cannot read a TIFF of subsampled YCbCr without JPEG; save it as RGB")
    photometric = RGB if is_jpeg_ycbcr else photometric
    alpha, is_premultiplied = _alpha(photometric, samples, values(338))
    colour_map = values(320)
    if photometric == PALETTE and (samples > 1 or kind != "u" or bits > 8 or len(colour_map) != 3 * 2**bits):
        raise ValueError(f"cannot read a TIFF with a palette and {samples} channels of {bits} bits; save it as RGB")
    if photometric in (WHITE_IS_ZERO, LAB) and (kind != "u" or bits > 16):
        name = "CIELab" if photometric == LAB else "grey in which 0 is white"
        raise ValueError(
            f"cannot read a TIFF of {name} in {_type_name(kind, bits)}; save it as RGB or black-is-zero grey"
        )

    is_planar = samples > 1 and value(284, 1) == 2
    if is_planar and is_jpeg_ycbcr:
        raise ValueError("cannot read a TIFF of YCbCr with JPEG in separate planes; save it as RGB")
    is_tiled = 322 in page.tags
    tile = (value(323, 0), value(322, 0)) if is_tiled else None
    segment_rows, row_pixels = tile or (min(value(278, height) or height, height), width)
    if segment_rows < 1 or row_pixels < 1:
        raise OSError("expected tiles of at least one pixel: the TIFF is damaged")
    rows = -(-height // segment_rows) * -(-width // row_pixels) * segment_rows if is_tiled else height
    plane_samples = 1 if is_planar else samples
    plane = Plane(
        compression,
        rows,
        -(-row_pixels * plane_samples * bits // 8),
        segment_rows,
        row_pixels,
        plane_samples,
        bits,
        t4_options=value(292, 0),
        jpeg_tables=bytes(values(347)),
        is_ycbcr=is_jpeg_ycbcr,
    )
    check_compression(plane)
    predictor = value(317, 1)
    if compression not in WITH_PREDICTOR:
        if predictor != 1 and compression == PACKBITS:
            raise ValueError("cannot read a TIFF of PackBits with a predictor, which programs read differently")
        predictor = 1
    if predictor not in (1, 2, 3) or (predictor == 3 and kind != "f") or (predictor == 2 and bits % 8):
        raise ValueError(f"cannot read a TIFF of {bits}-bit values with predictor {predictor}; save it without")
    planes = samples if is_planar else 1
    if planes * rows * plane.row_bytes > MAX_PAGE_BYTES:
        raise ValueError(f"expected at most {MAX_PAGE_BYTES:,} bytes of pixels in a page, got more")
    offsets, counts = _segments(
        content, plane, planes, values(324 if is_tiled else 273), values(325 if is_tiled else 279)
    )
    return Layout(
        content,
        page.offset,
        offsets,
        counts,
        plane,
        tile,
        width,
        height,
        samples,
        is_planar,
        kind,
        bits,
        order,
        predictor,
        value(266, 1) == 2 and compression != JPEG,
        photometric,
        _has_usual_colours(photometric, bits, value(332, CMYK_INKS), values(529), values(532)),
        alpha,
        is_premultiplied,
        value(274, 1),
        colour_map if photometric == PALETTE else (),
        _declared_white(kind, bits, values(281, values(341))),
        tuple(text for code, text in LOST.items() if code in page.tags),
    )


def _check_values(all_bits: Sequence[int], formats: Sequence[int]) -> None:
    """Raise `ValueError` unless all samples are of one type that is read."""
    if len(set(all_bits)) > 1 or len(set(formats)) > 1:
        raise ValueError(f"cannot read a TIFF with channels of different types ({all_bits} bits); save it as RGB")
    if formats[0] not in FORMATS:
        raise ValueError("cannot read a TIFF of complex numbers; save their real or absolute values")
    kind = FORMATS[formats[0]]
    if all_bits[0] not in WHOLE_BITS[kind]:
        raise ValueError(f"cannot read a TIFF of {_type_name(kind, all_bits[0])}; save it with 8, 16 or 32 bits")


def _type_name(kind: str, bits: int) -> str:
    return f"{bits}-bit {TYPE_NAMES[kind]}"


def _alpha(photometric: int, samples: int, extras: Sequence[int]) -> tuple[tuple[int, ...], bool]:
    """Return which samples are alpha, and whether the colours are multiplied with it."""
    if photometric not in COLOURS:
        name = PHOTOMETRIC_NAMES.get(photometric, f"photometric interpretation {photometric}")
        raise ValueError(f"cannot read a TIFF of colours of {name}; save it as RGB")
    colours = samples - len(extras) if photometric == CMYK else COLOURS[photometric]
    unknown = samples - colours - len(extras)
    if colours < 1 or unknown < 0:
        raise ValueError(f"cannot read a TIFF with {samples} channels where its colours need {colours + len(extras)}")
    if photometric == RGB and samples == 4 and not extras:
        extras, unknown = (2,), 0  # not stated by some programs
    labels = (0,) * (colours + unknown) + tuple(extras)
    return tuple(index for index, label in enumerate(labels) if label in ALPHA), 1 in extras


def _has_usual_colours(
    photometric: int, bits: int, inks: int, luma: Sequence[int], black_and_white: Sequence[int]
) -> bool:
    """Return whether the colours are what Pillow takes CMYK and YCbCr for. The last two are values of fractions."""
    if photometric == CMYK:
        return inks == CMYK_INKS
    if photometric != YCBCR:
        return True
    white, half = 2**bits - 1, 2 ** (bits - 1)
    is_usual_luma = not luma or np.allclose(_fractions(luma), LUMA, atol=1e-3)
    return is_usual_luma and (
        not black_and_white or np.allclose(_fractions(black_and_white), (0, white, half, white, half, white))
    )


def _fractions(values: Sequence[int]) -> np.ndarray:
    """Return fractions that are stored as numerator and denominator; infinity where that is 0."""
    return np.array([top / bottom if bottom else math.inf for top, bottom in zip(values[::2], values[1::2])])


def _segments(
    content: bytes, plane: Plane, planes: int, offsets: tuple[int, ...], counts: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the places and sizes of all strips or tiles, after checking that the file has them."""
    starts = range(0, plane.rows, plane.segment_rows)
    if plane.compression == NONE:  # some programs write wrong sizes
        counts = tuple(min(plane.segment_rows, plane.rows - start) * plane.row_bytes for start in starts) * planes
    expected = planes * len(starts)
    if len(offsets) != expected or len(counts) != expected:
        raise OSError(f"expected {expected} strips or tiles, got {len(offsets)}: the TIFF is damaged")
    for offset, count in zip(offsets, counts):
        if not offset or not count:
            raise ValueError("cannot read a TIFF with missing tiles (a sparse file); save it with all of them")
        if offset + count > len(content):
            raise OSError(f"expected {offset + count:,} bytes, got {len(content):,}: the TIFF is cut")
    return offsets, counts


def _stack(layout: Layout, planes: int) -> Iterator[Layout]:
    """Yield the layouts of the planes of a stack that has one directory: they lie behind each other."""
    size = sum(layout.counts)
    if planes > 1:
        ends = [offset + count for offset, count in zip(layout.offsets, layout.counts)]
        if layout.plane.compression != NONE or ends[:-1] != list(layout.offsets[1:]):
            raise ValueError(f"cannot read a compressed TIFF of {planes} images in one directory; save it uncompressed")
        if layout.offsets[0] + planes * size > len(layout.content):
            raise ValueError(f"expected a TIFF of {planes} images, as its description says, got fewer: it is cut")
    for index in range(planes):
        yield layout._replace(offsets=tuple(offset + index * size for offset in layout.offsets))


def _declared_white(kind: str, bits: int, declared: Sequence[Any]) -> int | None:
    """Return the largest value that 9 to 15 bits per sample hold, if there are so many, or the file says so.

    What the file says is taken if it can be a depth. Otherwise it is the brightest value that is used.
    """
    if kind != "u":
        return None
    white = int(max(declared, default=0))
    is_depth = 255 < white < 65535 and white & (white + 1) == 0
    return 2**bits - 1 if 8 < bits < 16 else white if bits == 16 and is_depth else None
