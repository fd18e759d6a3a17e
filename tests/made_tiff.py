"""TIFF files of any layout, written by hand: what a test expects of a reader must not come from another reader."""

import struct
import zlib

import numpy as np

WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER, SAMPLES = 256, 257, 258, 259, 262, 266, 277
STRIP_OFFSETS, ROWS, STRIP_COUNTS, PLANAR, PREDICTOR, COLOUR_MAP = 273, 278, 279, 284, 317, 320
TILE_WIDTH, TILE_LENGTH, TILE_OFFSETS, TILE_COUNTS, EXTRAS, FORMAT = 322, 323, 324, 325, 338, 339
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1, 12: 8, 16: 8}  # type of a tag -> bytes of a value
LETTERS = {3: "H", 4: "I", 12: "d", 16: "Q"}
FORMATS = {"u": 1, "i": 2, "f": 3, "c": 6, "b": 1}


def made_tiff(*pages, big_endian=False, big=False, chain_end=0):
    """Return a TIFF file. A page is `(tags, segments, sub-pages)`, see `page`."""
    order = ">" if big_endian else "<"
    offset_type, offset_letter = (16, "Q") if big else (4, "I")
    mark = b"MM" if big_endian else b"II"
    file = bytearray(
        mark + struct.pack(f"{order}HHHQ", 43, 8, 0, 0) if big else mark + struct.pack(f"{order}HI", 42, 0)
    )
    link = 8 if big else 4

    def append(data):
        file.extend(bytes(len(file) % 2))
        file.extend(data)
        return len(file) - len(data)

    def write_directory(tags, segments, sub_pages):
        """Return the place of the directory and the place of its link to the next one."""
        tags = dict(tags)
        tiled = TILE_WIDTH in tags
        offsets = [append(segment) for segment in segments]
        if segments:
            tags.setdefault(TILE_OFFSETS if tiled else STRIP_OFFSETS, (offset_type, offsets))
            tags.setdefault(
                TILE_COUNTS if tiled else STRIP_COUNTS, (offset_type, [len(segment) for segment in segments])
            )
        if sub_pages:
            tags[330] = (offset_type, [write_directory(*sub_page)[0] for sub_page in sub_pages])
        room = 8 if big else 4
        entries = b""
        for code, (kind, value) in sorted(tags.items()):
            packed = value if isinstance(value, bytes) else struct.pack(f"{order}{len(value)}{LETTERS[kind]}", *value)
            count = len(packed) // SIZES[kind]
            field = (
                packed.ljust(room, b"\0") if len(packed) <= room else struct.pack(order + offset_letter, append(packed))
            )
            entries += struct.pack(f"{order}HH{offset_letter}", code, kind, count) + field
        count = struct.pack(f"{order}{'Q' if big else 'H'}", len(tags))
        place = append(count + entries + struct.pack(order + offset_letter, chain_end))
        return place, len(file) - room

    for page_ in pages:
        place, next_link = write_directory(*page_)
        struct.pack_into(order + offset_letter, file, link, place)
        link = next_link
    return bytes(file)


def page(
    stored,
    photometric=1,
    bits=None,
    extras=(),
    planar=False,
    tile=None,
    rows=None,
    compression=1,
    predictor=1,
    fill_order=1,
    big_endian=False,
    tags=(),
    sub_pages=(),
):
    """Return a page for `made_tiff`.

    Args:
        stored: values `(height, width, samples)` as they are to be stored.
        bits: of a value; by default those of the type. Only the lowest ones are stored.
        tile: `(height, width)` of tiles; None for strips of `rows` rows.
        tags: more of them, `{code: (type, values or bytes)}`.
    """
    height, width, samples = stored.shape
    kind, size = stored.dtype.kind, stored.dtype.itemsize
    bits = bits or (1 if kind == "b" else 8 * size)
    order = ">" if big_endian else "<"
    segments = []
    planes = np.split(stored, samples, axis=-1) if planar else [stored]
    for plane in planes:
        tile_rows, tile_columns = tile or (rows or height, width)
        for top in range(0, height, tile_rows):
            for left in range(0, width, tile_columns):
                block = plane[top : top + tile_rows, left : left + tile_columns]
                if tile:
                    missing = tile_rows - block.shape[0], tile_columns - block.shape[1]
                    block = np.pad(block, [(0, missing[0]), (0, missing[1]), (0, 0)])
                raw = [_row(row, bits, predictor, order) for row in block]
                data = COMPRESS[compression](raw)
                if fill_order == 2:
                    data = bytes(int(f"{byte:08b}"[::-1], 2) for byte in data)
                segments.append(data)
    all_tags = {
        WIDTH: (4, [width]), LENGTH: (4, [height]), BITS: (3, [bits] * samples), COMPRESSION: (3, [compression]),
        PHOTOMETRIC: (3, [photometric]), SAMPLES: (3, [samples]), PLANAR: (3, [2 if planar else 1]),
        FORMAT: (3, [FORMATS[kind]] * samples),
    }  # fmt: skip
    all_tags |= {TILE_WIDTH: (3, [tile[1]]), TILE_LENGTH: (3, [tile[0]])} if tile else {ROWS: (4, [rows or height])}
    all_tags |= {EXTRAS: (3, list(extras))} if extras else {}
    all_tags |= {PREDICTOR: (3, [predictor])} if predictor != 1 else {}
    all_tags |= {FILL_ORDER: (3, [2])} if fill_order == 2 else {}
    return all_tags | dict(tags), segments, sub_pages


def _row(row, bits, predictor, order):
    """Return the bytes of a row `(columns, samples)`."""
    kind, size = row.dtype.kind, row.dtype.itemsize
    if bits not in (8, 16, 32, 64) or bits != 8 * size:
        text = "".join(f"{int(value) & (1 << bits) - 1:0{bits}b}" for value in row.ravel())
        text += "0" * (-len(text) % 8)
        return int(text, 2).to_bytes(len(text) // 8, "big")
    if predictor == 2:
        values = row.view(f"u{size}")
        row = np.concatenate([values[:1], values[1:] - values[:-1]])
    if predictor == 3:
        split = row.astype(f">{kind}{size}").view(np.uint8).reshape(-1, size).T.reshape(-1, row.shape[1])
        return np.concatenate([split[:1], split[1:] - split[:-1]]).tobytes()
    return row.astype(row.dtype.newbyteorder(order)).tobytes()


def _lzw(rows):
    """Return LZW that only ever uses codes of 9 bits: it clears its table before it grows."""
    content, bits = b"".join(rows), ""
    for first in range(0, len(content), 250):
        bits += f"{256:09b}" + "".join(f"{byte:09b}" for byte in content[first : first + 250])
    bits += f"{257:09b}"
    return int(bits + "0" * (-len(bits) % 8), 2).to_bytes(-(-len(bits) // 8), "big")


def _packbits(rows):
    return b"".join(bytes([len(part) - 1]) + part for row in rows for part in
                    (row[first : first + 128] for first in range(0, len(row), 128)))  # fmt: skip


COMPRESS = {
    1: b"".join,
    5: _lzw,
    8: lambda rows: zlib.compress(b"".join(rows)),
    32773: _packbits,
    32946: lambda rows: zlib.compress(b"".join(rows)),
    50001: b"".join,
}
