"""TIFF files: read, and written by replacing the pixels in a copy of the input. So all tags and directories are kept.

The tags of a page decide what its pixels are (`keras_dae.images.tiff_layout`). A page that is not surely understood is
refused by name.
"""

import io
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np

from keras_dae.images.page import Page, check_size, to_palette
from keras_dae.images.sample_bits import pack_bits, smallest_dtype, unpack_bits
from keras_dae.images.tiff_codecs import compress, decompress
from keras_dae.images.tiff_layout import LAB, MASK, PALETTE, RGB, WHITE_IS_ZERO, Layout, layouts_of, open_tiff
from keras_dae.images.unit_range import type_white

PLANE_MODES = {5: "CMYK", 6: "YCbCr", LAB: "LAB"}  # photometric interpretation -> Pillow's mode
SHORT, LONG = 3, 4  # types of tags
REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
GDAL_PROMISE = b"KNOWN_INCOMPATIBLE_EDITION=NO\n "  # GDAL's promise that nobody else has changed the file


def read(content: bytes) -> Iterator[Page]:
    """Yield the pages of a TIFF file, those in sub-directories too, and pages of reduced resolution last.

    Masks are left out, and stay as they are.

    Integers of 1 bit give bool, of 2 to 8 bits uint8 in 0 … 255, and of more bits uint16 as they are stored. Black is
    0 also where the file stores white as 0. Colours that are neither grey nor RGB give a batch of grey images.

    Raises:
        OSError: the file is damaged.
        ValueError: a page is of a kind that is not supported, or values do not fit into 16 bits.
    """
    pixels = found = 0
    for layout in layouts_of(content):
        if layout.photometric == MASK:
            continue
        pixels = check_size(layout.width, layout.height, pixels)
        found += 1
        yield _page(layout)
    if not found:
        raise ValueError("expected a TIFF with pictures, got only masks")


def write(pages: Sequence[Page]) -> bytes:
    """Return the content of a TIFF file: the inverse of `read`."""
    content = pages[0].form.content
    file = io.BytesIO()
    file.write(content)
    file.write(bytes(len(content) % 2 + 2))  # so that no value of a tag stands at the end, where it could grow
    file.seek(0)
    with open_tiff(file) as (_, found):
        directories = {page.offset: page for page in found}
        tags, shared_tags = _places_of_tags(found, len(content)), _shared_tags(found)
        shared = _shared_segments([page.form for page in pages], found)
        for page in pages:
            layout: Layout = page.form
            directory = directories[layout.directory]
            if layout.photometric == PALETTE:
                stored, colour_map = _with_palette(page)
                _replace_tag(directory.tags[320], colour_map, shared_tags)
            else:
                stored = _stored(page)
            if any(tags.find(1, offset, offset + count) >= 0 for offset, count in zip(layout.offsets, layout.counts)):
                raise OSError("the pixels of the TIFF lie where its tags are: it is damaged")
            _replace_segments(file, directory, layout, _segments_of(layout, stored), shared, shared_tags)
    written = file.getvalue()
    if written.find(GDAL_PROMISE, 0, 1000) >= 0:
        written = written.replace(GDAL_PROMISE, GDAL_PROMISE.replace(b"NO\n ", b"YES\n"), 1)
    return written


def orientation(content: bytes, page: Page) -> int:
    """Return how a viewer turns the first page: EXIF's number."""
    return page.form.orientation


def _page(layout: Layout) -> Page:
    """Return a page with pixels as a denoiser takes them."""
    white = layout.declared_white
    if layout.photometric == PALETTE:
        palette = np.array(layout.colour_map, np.uint32).reshape(3, -1).T
        if palette.max() > 255:  # some programs write 8 bits instead of 16
            palette //= 256
        return Page(palette.astype(np.uint8)[_samples(layout)[..., 0]], "P", layout, lost=layout.lost)
    values = _interpret(layout, _samples(layout))
    colours = _colours(layout)
    if _is_plain(layout):
        pixels = values[..., [*colours, *layout.alpha]]
        mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[pixels.shape[-1]]
        if layout.bits == 1 and mode == "L":
            mode = "1"
        elif layout.is_premultiplied:
            mode = mode.replace("A", "a")
        return Page(pixels[..., 0] if pixels.shape[-1] == 1 else pixels, mode, layout, white=white, lost=layout.lost)
    is_known = len(colours) == layout.samples and layout.has_usual_colours
    mode = PLANE_MODES.get(layout.photometric, "") if is_known else ""
    return Page(np.moveaxis(values[..., colours], -1, 0)[..., None], mode, layout, white=white, lost=layout.lost)


def _colours(layout: Layout) -> list[int]:
    return [index for index in range(layout.samples) if index not in layout.alpha]


def _is_plain(layout: Layout) -> bool:
    """Return whether the page is grey or RGB, with at most one alpha."""
    colours = layout.samples - len(layout.alpha)
    return len(layout.alpha) <= 1 and (colours == 1 or (colours == 3 and layout.photometric == RGB))


def _interpret(layout: Layout, stored: np.ndarray) -> np.ndarray:
    """Return stored samples `(height, width, samples)` as bool, uint8, uint16 or floats, in which 0 is black."""
    if layout.kind == "f":
        return stored
    bits = layout.bits
    if bits > 16 or layout.kind == "i":
        limit = 255 if bits == 8 else 65535
        if stored.min() < 0 or stored.max() > limit:
            raise ValueError(f"expected {limit.bit_length()}-bit values, got {stored.min()} … {stored.max()}")
        return stored.astype(np.uint8 if bits == 8 else np.uint16)
    values = _flip(layout, stored)
    if bits == 1:
        return values.astype(bool)
    return values if bits >= 8 else np.rint(values * (255 / (2**bits - 1))).astype(np.uint8)


def _flip(layout: Layout, values: np.ndarray) -> np.ndarray:
    """Turn stored values so that 0 is black, and signed colour differences so that 0 is in the middle; and back."""
    if layout.photometric == WHITE_IS_ZERO:
        colours = _colours(layout)
        flipped = values.copy()
        flipped[..., colours] = values.dtype.type(2**layout.bits - 1) - values[..., colours]
        return flipped
    if layout.photometric == LAB:
        flipped = values.copy()
        flipped[..., 1:3] ^= values.dtype.type(2 ** (layout.bits - 1))
        return flipped
    return values


def _stored(page: Page) -> np.ndarray:
    """Return the samples `(height, width, samples)` of a page as they are stored: the inverse of `_page`."""
    layout: Layout = page.form
    colours = _colours(layout)
    pixels = page.pixels
    if not _is_plain(layout):
        values, places = np.moveaxis(pixels[..., 0], 0, -1), colours
    else:
        values, places = pixels if pixels.ndim == 3 else pixels[..., None], [*colours, *layout.alpha]
    if layout.kind == "f":
        packed = values
    elif layout.bits > 16 or layout.kind == "i":
        dtype = smallest_dtype(layout.bits) if layout.kind == "u" else np.dtype(f"i{layout.bits // 8}")
        packed = np.minimum(values, min(type_white(dtype), type_white(values.dtype))).astype(dtype)
    else:
        white = 2**layout.bits - 1
        scaled = np.rint(values * (white / 255)) if 1 < layout.bits < 8 else np.minimum(values, white)
        packed = scaled.astype(np.uint8 if layout.bits <= 8 else np.uint16)
    stored = np.empty_like(packed) if len(places) == layout.samples else _samples(layout).copy()
    stored[..., places] = packed
    return _flip(layout, stored)


def _with_palette(page: Page) -> tuple[np.ndarray, list[int]]:
    """Return the indices `(height, width, 1)` of a page with a palette, and the tag with its new colours."""
    colours = 2**page.form.bits
    indices, palette = to_palette(page.pixels, colours)
    whole = np.zeros((colours, 3), np.uint32)
    whole[: len(palette)] = palette
    return indices[..., None], (whole.T * 257).ravel().tolist()


def _samples(layout: Layout) -> np.ndarray:
    """Return the samples `(height, width, samples)` of a page as they are stored, in this machine's byte order."""
    plane, segments = layout.plane, layout.segments
    if layout.reverses_bits:
        segments = [segment.translate(REVERSED) for segment in segments]
    count = len(segments) // layout.planes
    rows = np.stack(
        [
            _unpack(layout, decompress(plane, segments[first : first + count]))
            for first in range(0, len(segments), count)
        ]
    )
    if layout.tile:  # (planes, down, across, tile rows, tile columns, samples) -> whole rows
        tile_rows, tile_columns = layout.tile
        across = -(-layout.width // tile_columns)
        tiles = rows.reshape(layout.planes, -1, across, tile_rows, tile_columns, plane.samples)
        rows = tiles.swapaxes(2, 3).reshape(layout.planes, -1, across * tile_columns, plane.samples)
        rows = rows[:, : layout.height, : layout.width]
    return np.moveaxis(rows[..., 0], 0, -1) if layout.is_planar else rows[0]


def _segments_of(layout: Layout, stored: np.ndarray) -> list[bytes]:
    """Return the strips or tiles of samples: the inverse of `_samples`. Beyond the edge, tiles repeat its pixels."""
    plane = layout.plane
    rows = np.moveaxis(stored, -1, 0)[..., None] if layout.is_planar else stored[None]
    if layout.tile:
        tile_rows, tile_columns = layout.tile
        missing = [(0, -layout.height % tile_rows), (0, -layout.width % tile_columns)]
        whole = np.pad(rows, [(0, 0), *missing, (0, 0)], "edge")
        across = whole.shape[2] // tile_columns
        tiles = whole.reshape(layout.planes, -1, tile_rows, across, tile_columns, plane.samples)
        rows = tiles.swapaxes(2, 3).reshape(layout.planes, -1, tile_columns, plane.samples)
    old = layout.segments
    count = len(old) // layout.planes
    segments = []
    for index, plane_rows in enumerate(rows):
        segments += compress(plane, _pack(layout, plane_rows), old[index * count : (index + 1) * count])
    return [segment.translate(REVERSED) for segment in segments] if layout.reverses_bits else segments


def _unpack(layout: Layout, content: bytes) -> np.ndarray:
    """Return a plane's samples `(rows, columns, samples)` from its bytes."""
    plane, size = layout.plane, layout.bits // 8
    shape = (plane.rows, plane.width, plane.samples)
    rows = np.frombuffer(content, np.uint8).reshape(plane.rows, -1)
    if layout.predictor == 3:  # the bytes of floats, the highest of all first, as differences
        summed = np.cumsum(rows.reshape(plane.rows, -1, plane.samples), axis=1, dtype=np.uint8)
        by_byte = summed.reshape(plane.rows, size, -1)
        floats = np.ascontiguousarray(by_byte.swapaxes(1, 2)).view(f">f{size}").reshape(shape)
        return floats.astype(f"=f{size}")
    if layout.bits % 8 or layout.bits == 24:
        return unpack_bits(rows, layout.bits, plane.width * plane.samples).reshape(shape)
    kind = "u" if layout.predictor == 2 else layout.kind
    values = rows.view(f"{layout.order}{kind}{size}").reshape(shape)
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    if layout.predictor == 2:
        values = np.cumsum(values, axis=1, dtype=values.dtype).view(f"{layout.kind}{size}")
    return values


def _pack(layout: Layout, values: np.ndarray) -> bytes:
    """Return the bytes of a plane's samples: the inverse of `_unpack`."""
    size = layout.bits // 8
    if layout.predictor == 3:
        by_pixel = np.ascontiguousarray(values, f">f{size}").view(np.uint8).reshape(len(values), -1, size)
        by_byte = by_pixel.swapaxes(1, 2).reshape(len(values), -1, layout.plane.samples)
        return _differences(by_byte).tobytes()
    if layout.bits % 8 or layout.bits == 24:
        return pack_bits(values.reshape(len(values), -1), layout.bits).tobytes()
    if layout.predictor == 2:
        values = _differences(np.ascontiguousarray(values).view(f"u{size}"))
    return values.astype(f"{layout.order}{values.dtype.kind}{size}").tobytes()


def _differences(values: np.ndarray) -> np.ndarray:
    """Return the difference of each value `(rows, columns, samples)` from the one before it; the first stays."""
    differences = values.copy()
    differences[:, 1:] -= values[:, :-1]
    return differences


def _places_of_tags(directories: Sequence[Any], size: int) -> bytearray:
    """Return 1 for each byte of a file of `size` bytes that belongs to the header, a directory or a tag, and else 0."""
    places = bytearray(size)
    places[:8] = b"\1" * 8  # the header
    for page in directories:
        parts = [(page.offset, 2), *((tag.offset, 8) for tag in page.tags)]
        parts += [(tag.valueoffset, tag.valuebytecount) for tag in page.tags]
        for start, count in parts:
            end = min(start + count, size)
            places[start:end] = b"\1" * max(0, end - start)
    return places


def _shared_segments(layouts: Sequence[Layout], directories: Sequence[Any]) -> set[int]:
    """Return the offsets of the strips and tiles of a file that have bytes in common with others, also with a mask's.

    Raises:
        OSError: there are some in a stack that has one directory for many planes. They could not be moved.
    """
    written = {layout.directory for layout in layouts}
    places = [(layout.offsets, layout.counts) for layout in layouts]
    places += [(page.dataoffsets, page.databytecounts) for page in directories if page.offset not in written]
    shared = _shared(place for offsets, counts in places for place in zip(offsets, counts))
    if shared and len(written) < len(layouts):
        raise OSError("cannot write a stack of one directory whose planes share their bytes; save it as pages")
    return shared


def _shared_tags(directories: Sequence[Any]) -> set[int]:
    """Return the offsets of the values of tags that have bytes in common with others."""
    return _shared((tag.valueoffset, tag.valuebytecount) for page in directories for tag in page.tags)


def _shared(places: Iterable[tuple[int, int]]) -> set[int]:
    """Return the offsets of those places, `(offset, bytes)`, that have bytes in common with others.

    Example:
        >>> sorted(_shared([(0, 4), (4, 4), (10, 9), (12, 2), (15, 1)]))
        [10, 12, 15]
    """
    shared, farthest, end = set(), 0, 0  # the place that reaches farthest so far, and where it ends
    for start, count in sorted(place for place in places if place[1]):
        if start < end:
            shared |= {start, farthest}
        if start + count > end:
            farthest, end = start, start + count
    return shared


def _replace_segments(
    file: BinaryIO,
    directory: Any,
    layout: Layout,
    segments: Sequence[bytes],
    shared: set[int],
    shared_tags: set[int],
) -> None:
    """Write strips or tiles in the place of the old ones; at the end of the file if they are longer, or `shared`."""
    offsets = list(layout.offsets)
    for index, segment in enumerate(segments):
        if len(segment) > layout.counts[index] or offsets[index] in shared:
            offsets[index] = file.seek(0, os.SEEK_END)
            if offsets[index] % 2:
                file.write(b"\0")
                offsets[index] += 1
        file.seek(offsets[index])
        file.write(segment)
    counts = [len(segment) for segment in segments]
    for code, old, new in ((layout.offsets_tag, layout.offsets, offsets), (layout.counts_tag, layout.counts, counts)):
        if tuple(new) != tuple(old):
            _replace_tag(directory.tags[code], new, shared_tags)


def _replace_tag(tag: Any, value: Sequence[int], shared: set[int]) -> None:
    """Write another value of a tag. Raises `OSError` if its place is one of those that are `shared`."""
    if tag.valueoffset in shared:
        name = "palette; save it as RGB" if tag.code == 320 else "list of strips or tiles; save them as files"
        raise OSError(f"cannot write a TIFF in which pages share one {name}")
    fits = tag.dtype != SHORT or max(value) < 2**16
    tag.overwrite(value, dtype=tag.dtype if fits else LONG)
