"""Damaged files of every kind that the package reads. They are made from sound files, always in the same way."""

import gzip
import io
import json
import struct
import zipfile

import numpy as np
from PIL import Image

MUTATIONS = 24  # of each sound file

KINDS = ("cut", "flip", "flip early", "zero", "insert", "burst")


def mutate(content, kind, random):
    """Return `(place, content)`. The file is cut there, or a bit is flipped, or bytes are zeroed, added or overwritten.

    Args:
        content: of the sound file.
        kind: one of KINDS.
        random: random generator.
    """
    data = bytearray(content or b"\0")
    place = int(random.integers(min(len(data), 256) if kind == "flip early" else len(data)))
    if kind == "cut":
        del data[place:]
    elif kind.startswith("flip"):
        data[place] ^= 1 << int(random.integers(8))
    elif kind == "zero":
        data[place : place + 64] = bytes(len(data[place : place + 64]))
    elif kind == "insert":
        data[place:place] = random.bytes(16)
    else:
        data[place : place + 32] = random.bytes(len(data[place : place + 32]))
    return place, bytes(data)


def mutations(content, seed, count=MUTATIONS):
    """Yield `(what was done, content)` of `count` mutations of a file."""
    random = np.random.default_rng(seed)
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        place, data = mutate(content, kind, random)
        yield f"{kind} at {place}", data


def common():
    """Yield `(description, content)` of files that are wrong for every reader."""
    yield "empty", b""
    yield "one byte", b"\0"
    yield "text", b"this is no such file\n"
    yield "zeros", bytes(1000)
    yield "noise", np.random.default_rng(0).bytes(1000)
    yield "an empty zip", zip_of({})
    yield "a zip of text", zip_of({"hello.txt": b"hello"})
    yield "a gzip of text", gzip.compress(b"hello")


def zip_of(members, compression=zipfile.ZIP_STORED):
    """Return the content of a zip archive. `members` is `{name: content}`."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def npy(array, **options):
    """Return the content of a .npy file."""
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def npz(**arrays):
    """Return the content of an .npz file."""
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def lying_npy(header):
    """Return the content of a .npy file with this header and 100 bytes of data."""
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(100)


def wrong_arrays():
    """Yield `(description, array)` of arrays that are not images."""
    yield "no images", np.zeros((0, 28, 28), np.uint8)
    yield "no pixels", np.zeros((5, 0, 28), np.uint8)
    yield "one pixel", np.zeros((5, 1, 1), np.uint8)
    yield "a number", np.array(5, np.uint8)
    yield "one dimension", np.zeros(100, np.uint8)
    yield "five dimensions", np.zeros((2, 2, 28, 28, 1), np.uint8)
    yield "two channels", np.zeros((9, 28, 28, 2), np.uint8)
    yield "NaN", np.full((9, 28, 28), np.nan, np.float32)
    yield "infinity", np.full((9, 28, 28), np.inf, np.float32)
    yield "too bright", np.full((9, 28, 28), 255.0)
    yield "negative", np.full((9, 28, 28), -0.1)
    yield "complex", np.zeros((9, 28, 28), complex)
    yield "text", np.array([["a"]])
    yield "dates", np.zeros((9, 28, 28), "datetime64[s]")
    yield "records", np.zeros((9, 28, 28), [("a", "u1"), ("b", "f4")])
    yield "int64", np.zeros((9, 28, 28), np.int64)


def arrays_files():
    """Yield `(suffix, description, content)` of damaged .npy and .npz files."""
    random = np.random.default_rng(1)
    images = random.integers(0, 256, (12, 28, 28), np.uint8)
    for what, array in wrong_arrays():
        yield ".npy", what, npy(array)
        yield ".npz", what, npz(x_train=array, x_test=images)
        yield ".npz", f"{what} in the test images", npz(x_train=images, x_test=array)
    yield ".npy", "objects", npy(np.array([{}, 1], object), allow_pickle=True)
    yield ".npz", "objects", zip_of({"images.npy": npy(np.array([{}, 1], object), allow_pickle=True)})
    for what, header in (
        ("a terabyte", "{'descr': '|u1', 'fortran_order': False, 'shape': (1000000, 1000, 1000), }"),
        ("a negative size", "{'descr': '|u1', 'fortran_order': False, 'shape': (-5, 28, 28), }"),
        ("an endless size", "{'descr': '|u1', 'fortran_order': False, 'shape': (%s, 28), }" % ("9" * 40)),
        ("no shape", "{'descr': '|u1', 'fortran_order': False, }"),
        ("an unknown type", "{'descr': '|Q9', 'fortran_order': False, 'shape': (5, 28, 28), }"),
        ("code", "__import__('os').system('false')"),
    ):
        yield ".npy", what, lying_npy(header)
        yield ".npz", what, zip_of({"images.npy": lying_npy(header)})
    yield ".npz", "a bomb", zip_of({"images.npy": npy(np.zeros((400_000, 28, 28), np.uint8))}, zipfile.ZIP_DEFLATED)
    yield ".npz", "wrong names", npz(a=images, b=images)
    yield ".npz", "a path as a name", zip_of({"../../images.npy": npy(images), "x.npy": b""})
    yield ".npz", "test images of another size", npz(x_train=images, x_test=np.zeros((3, 14, 14), np.uint8))
    yield ".npz", "test images of another large size", npz(x_train=images, x_test=np.zeros((3, 32, 30), np.uint8))
    for ending, sound in ((".npy", npy(images)), (".npz", npz(x_train=images, x_test=images))):
        for what, content in [*common(), *mutations(sound, len(ending))]:
            yield ending, what, content


def image_bytes(kind, mode="L", **options):
    """Return the content of an image file of 40×30 pixels, in a format and a mode of Pillow."""
    random = np.random.default_rng(2)
    pixels = random.integers(0, 256, (30, 40, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, kind, **options)
    return file.getvalue()


def png_of_size(width, height):
    """Return a PNG file whose header states this size, with correct checksums, but that has almost no data."""
    import zlib

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def image_files():
    """Yield `(suffix, description, content)` of damaged image files."""
    yield ".png", "a bomb", png_of_size(60_000, 60_000)
    yield ".png", "the largest size", png_of_size(2**31 - 1, 2**31 - 1)
    yield ".png", "no width", png_of_size(0, 10)
    yield ".png", "negative pixels in 32 bits", image_bytes("TIFF")[:200]
    yield ".tif", "NaN", tiff(np.full((30, 40), np.nan, np.float32))
    yield ".tif", "too bright", tiff(np.full((30, 40), 1000.0, np.float32))
    yield ".tif", "negative", tiff(np.full((30, 40), -5, np.int32))
    yield ".png", "a GIF", image_bytes("GIF")
    for ending, kind, options in (
        (".png", "PNG", {}),
        (".jpg", "JPEG", {}),
        (".tif", "TIFF", {}),
        (".tiff", "TIFF", {"compression": "tiff_lzw"}),
        (".bmp", "BMP", {}),
        (".webp", "WebP", {"lossless": True}),
    ):
        for what, content in [*common(), *mutations(image_bytes(kind, **options), len(kind))]:
            yield ending, what, content


def tiff(array):
    """Return the content of a TIFF file."""
    file = io.BytesIO()
    Image.fromarray(array).save(file, "TIFF")
    return file.getvalue()


def idx(shape, content, magic=0x803):
    """Return the content of an IDX file with this header and data."""
    return struct.pack(">4i", magic, *shape) + content


def idx_files(shape):
    """Yield `(suffix, description, content)` of damaged IDX files that should hold uint8 images of `shape`."""
    content = np.random.default_rng(3).integers(0, 256, shape, np.uint8).tobytes()
    sound = idx(shape, content)
    wrong = {
        "another magic": idx(shape, content, 0x801),
        "too many promised": idx((10**6, *shape[1:]), content),
        "a negative count": idx((-1, *shape[1:]), content),
        "cut": sound[:-1],
        "too long": sound + b"\0",
        "another size": idx((shape[0], 14, 56), content),
        **dict(common()),
    }
    wrong |= {what: data for what, data in mutations(sound, 4, 12) if data != sound}
    for what, data in wrong.items():
        yield "", what, data
        yield ".gz", f"{what}, gzipped", gzip.compress(data)
    yield ".gz", "a bomb", gzip.compress(sound + bytes(2**27))
    for what, data in mutations(gzip.compress(sound), 5, 18):
        yield ".gz", what, data


def json_values(value, path=()):
    """Yield `(description, value)`: versions of a JSON object with a value removed, or replaced by another type."""
    if isinstance(value, dict):
        for key in value:
            rest = {name: other for name, other in value.items() if name != key}
            yield f"without {'.'.join((*path, key))}", rest
            for what, changed in json_values(value[key], (*path, key)):
                yield what, {**value, key: changed}
    for other in (None, "text", -1, [], {}, 1e400):
        if type(other) is not type(value):
            yield f"{'.'.join(path)} is {other!r}", other


def json_files(content, seed):
    """Yield `(description, content)` of damaged versions of a JSON file."""
    value = json.loads(content)
    for what, other in json_values(value):
        yield what, json.dumps(other).encode()
    yield "nested too deep", b"[" * 100_000
    yield "a long number", b'{"format": ' + b"9" * 10_000 + b"}"
    yield "not UTF-8", b'{"format": "\xff"}'
    yield from common()
    yield from mutations(content, seed, 12)
