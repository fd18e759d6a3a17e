"""The matrix of image files: formats, colours, depths, types, storage and metadata. Each cell is right, or refused.

What is expected is made by construction, or by tifffile, and never by the package's own readers. Every file is read for
training and for denoising. The output gets other pixels than the input, so that a writer that does nothing is found.
"""

import io
import itertools
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import PIL
import pytest
import tifffile
from conftest import run_module
from made_tiff import made_tiff, page
from PIL import Image, JpegImagePlugin

from keras_dae.denoise.__main__ import main
from keras_dae.images.codec import decode, encode
from keras_dae.images.jpeg import has_known_sampling
from keras_dae.images.read import read_image

HEIGHT, WIDTH = 20, 37
RANDOM = np.random.default_rng(0)


def random_values(samples, dtype, bits):
    """Return random values `(height, width, samples)` that use all bits."""
    if dtype.kind == "f":
        return RANDOM.random((HEIGHT, WIDTH, samples)).astype(dtype)
    return RANDOM.integers(0, 2**bits, (HEIGHT, WIDTH, samples)).astype(dtype)


def turned(content):
    """Decode a file and encode it with its pixels upside down. Return `(pages, output)`."""
    kind, pages = decode(content)
    return pages, encode(kind, [upside_down(page_) for page_ in pages])


def upside_down(page_):
    axis = 1 if page_.pixels.ndim == 4 else 0
    return page_._replace(pixels=np.flip(page_.pixels, axis))


def refused(content, tmp_path, message):
    """Check that a file is refused with this message, in training and in denoising."""
    (tmp_path / "image").write_bytes(content)
    with pytest.raises((ValueError, OSError), match=message):
        decode(content)
    with pytest.raises((ValueError, OSError), match=message):
        read_image(tmp_path / "image", 1)


# TIFF: colours × types. Each type: NumPy's name, bits that are stored, and the type in which it is denoised.
TYPES = {
    "1": ("u1", 1, "?"), "2": ("u1", 2, "u1"), "4": ("u1", 4, "u1"), "7": ("u1", 7, "u1"), "8": ("u1", 8, "u1"),
    "10": ("u2", 10, "u2"), "12": ("u2", 12, "u2"), "14": ("u2", 14, "u2"), "16": ("u2", 16, "u2"),
    "24": ("u4", 24, "u2"), "32": ("u4", 32, "u2"), "64": ("u8", 64, "u2"),
    "int8": ("i1", 8, "u1"), "int16": ("i2", 16, "u2"), "int32": ("i4", 32, "u2"), "int64": ("i8", 64, "u2"),
    "float16": ("f2", 16, "f2"), "float32": ("f4", 32, "f4"), "float64": ("f8", 64, "f8"),
    "complex": ("c8", 64, None),
}  # fmt: skip
# Photometric interpretation, samples, ExtraSamples.
COLOURS = {
    "grey": (1, 1, ()), "white is zero": (0, 1, ()), "grey and alpha": (1, 2, (2,)), "grey premultiplied": (1, 2, (1,)),
    "white is zero and alpha": (0, 2, (2,)), "two bands": (1, 2, (0,)), "five bands": (1, 5, (0, 0, 0, 0)),
    "bands without a tag": (1, 3, ()), "RGB": (2, 3, ()),
    "RGB and alpha": (2, 4, (2,)), "RGB premultiplied": (2, 4, (1,)),
    "RGB and infrared": (2, 4, (0,)), "RGB, alpha and infrared": (2, 5, (2, 0)), "RGBA without a tag": (2, 4, ()),
    "CMYK": (5, 4, ()), "CMYK and alpha": (5, 5, (2,)), "YCbCr": (6, 3, ()), "CIELab": (8, 3, ()), "ICCLab": (9, 3, ()),
    "ITULab": (10, 3, ()), "colour filters": (32803, 1, ()), "linear raw": (34892, 3, ()), "LogL": (32844, 1, ()),
}  # fmt: skip
REFUSED_COLOURS = {"ITULab": "ITU Lab", "colour filters": "raw pixels", "linear raw": "raw pixels", "LogL": "LogL"}


def stored_values(name, values, bits):
    """Return the values as a file of these colours stores them, from values in which 0 is black."""
    stored = values.copy()
    if name.startswith("white is zero"):
        stored[..., 0] = (2**bits - 1) - values[..., 0]
    if name == "CIELab":  # the two colour differences are signed
        stored[..., 1:] = (values[..., 1:] + values.dtype.type(2 ** (bits - 1))) & values.dtype.type(2**bits - 1)
    return stored


def expected_pixels(name, values, bits, dtype):
    """Return the pixels that a denoiser gets, and the ones that training on RGB gets (None: refused)."""
    photometric, samples, extras = COLOURS[name]
    if bits < 8 and dtype == "u1":
        values = np.rint(values * (255 / (2**bits - 1)))
    values = values.astype(dtype)
    alpha = {index for index, label in enumerate([0] * (samples - len(extras)) + list(extras)) if label in (1, 2)}
    alpha |= {3} if name == "RGBA without a tag" else set()
    colours = [index for index in range(samples) if index not in alpha]
    if len(colours) == 1 or (photometric == 2 and len(colours) == 3):
        pixels = values[..., 0] if samples == 1 else values
        training = values[..., colours]
        training = np.uint8(255 * training) if dtype == "?" else training
        return pixels, None if "premultiplied" in name else np.broadcast_to(training, (*training.shape[:2], 3))
    return np.stack([values[..., index, None] for index in colours]), None


@pytest.mark.parametrize(("name", "kind"), list(itertools.product(COLOURS, TYPES)))
def test_tiff_colours_and_types(name, kind, tmp_path):
    """Each is read as it was made, in training and denoising, and written so that tifffile reads what was denoised."""
    photometric, samples, extras = COLOURS[name]
    dtype, bits, denoised_dtype = TYPES[kind]
    fits = 15 if kind.startswith("int") else 16  # of the larger types, values of 16 bits are denoised
    values = random_values(samples, np.dtype(dtype), 7 if kind == "int8" else min(bits, fits))
    made_of = stored_values(name, values, bits) if values.dtype.kind == "u" else values
    tags = {530: (3, [1, 1])} if name == "YCbCr" else {}
    content = made_tiff(page(made_of, photometric, bits, extras, tags=tags))
    if name in REFUSED_COLOURS:
        refused(content, tmp_path, f"{REFUSED_COLOURS[name]}|complex")
        return
    if kind == "complex":
        refused(content, tmp_path, "complex numbers")
        return
    if (name.startswith("white is zero") or name == "CIELab") and (values.dtype.kind != "u" or bits > 16):
        refused(content, tmp_path, "CIELab" if name == "CIELab" else "0 is white")
        return

    pages, output = turned(content)
    pixels, training = expected_pixels(name, values, bits, denoised_dtype)
    assert pages[0].pixels.dtype == pixels.dtype
    assert np.array_equal(pages[0].pixels, pixels)
    assert pages[0].white == (2**bits - 1 if 8 < bits < 16 else None)
    assert not pages[0].lost
    if kind in ("8", "16", "32", "64", "float32", "int16"):  # tifffile alone does not read others
        before, after = (tifffile.imread(io.BytesIO(file)) for file in (content, output))
        assert after.dtype == before.dtype
        flipped = np.flip(before.reshape(HEIGHT, WIDTH, samples), 0)
        if name in ("CMYK and alpha", "RGB, alpha and infrared") and len(pixels) == samples - 1:
            flipped[..., 3 if name[0] == "R" else 4] = made_of[..., 3 if name[0] == "R" else 4]  # alpha stays
        assert np.array_equal(after.reshape(HEIGHT, WIDTH, samples), flipped)
    else:
        assert np.array_equal(decode(output)[1][0].pixels, upside_down(pages[0]).pixels)
    (tmp_path / "image").write_bytes(content)
    if training is not None:
        got = read_image(tmp_path / "image", 3)
        assert got.dtype == ("u1" if denoised_dtype in ("?", "u1") else "u2" if denoised_dtype == "u2" else "f4")
        assert np.array_equal(got, training.astype(got.dtype))
    elif "premultiplied" not in name and name not in ("CMYK", "YCbCr"):
        with pytest.raises(ValueError, match="channels of other colours"):
            read_image(tmp_path / "image", 3)


# TIFF: storage.
STORAGE = [
    dict(zip(("planar", "tile", "big_endian", "big", "fill_order"), storage))
    for index, storage in enumerate(
        itertools.product((False, True), (None, (16, 32)), (False, True), (False, True), (1, 2))
    )
    if index.bit_count() % 2 == 0  # each combination of four of the five
]
COMPRESSIONS = {"none": (1, 1), "LZW": (5, 1), "LZW, predictor": (5, 2), "LZW, float predictor": (5, 3),
                "Deflate": (8, 1), "Deflate, predictor": (8, 2), "old Deflate": (32946, 1),
                "PackBits": (32773, 1)}  # fmt: skip


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
def test_tiff_storage(compression, dtype):
    """Strips, tiles, planes, byte orders, BigTIFF and bit orders: what is denoised is stored as the input was."""
    code, predictor = COMPRESSIONS[compression]
    for index, storage in enumerate(STORAGE):
        values = random_values(3, np.dtype(dtype), 8 * int(dtype[1]))
        options = {key: value for key, value in storage.items() if key != "big"}
        tags = {305: (2, b"a program\0"), 65000: (5, struct.pack(">II" if storage["big_endian"] else "<II", 3, 7))}
        made = page(values, 2, rows=7, compression=code, predictor=predictor, tags=tags, **options)
        content = made_tiff(made, big_endian=storage["big_endian"], big=storage["big"])
        if predictor == 3 and dtype != "f4":
            with pytest.raises(ValueError, match="predictor 3"):
                decode(content)
            return
        (page_,), output = turned(content)
        assert np.array_equal(page_.pixels, values), storage
        assert np.array_equal(decode(output)[1][0].pixels, values[::-1]), storage
        with tifffile.TiffFile(io.BytesIO(content)) as before, tifffile.TiffFile(io.BytesIO(output)) as after:
            assert before.byteorder == after.byteorder
            assert before.is_bigtiff == after.is_bigtiff
            tags = [{tag.code: tag.value for tag in file.pages[0].tags if tag.code not in (273, 279, 324, 325)}
                    for file in (before, after)]  # fmt: skip
            assert tags[0] == tags[1]
            if code != 5 and predictor != 3 and index % 3 == 0:  # tifffile alone does not read these
                read = after.pages[0].asarray()
                assert np.array_equal(np.moveaxis(read, 0, -1) if storage["planar"] else read, values[::-1])


@pytest.mark.parametrize(
    "compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "group3", "group4", "lzma", "zstd"]
)
def test_tiff_compressions_of_libtiff(compression):
    """Pillow's libtiff writes the input and reads the output."""
    is_fax = compression.startswith("group")
    values = RANDOM.integers(0, 2 if is_fax else 256, (50, 61) if is_fax else (50, 61, 3)).astype(
        bool if is_fax else np.uint8
    )
    file = io.BytesIO()
    try:
        Image.fromarray(values).save(file, "TIFF", compression=compression, tiffinfo={278: 16})
    except OSError:
        pytest.skip(f"Pillow {PIL.__version__} was built without {compression}")
    (page_,), output = turned(file.getvalue())
    assert np.array_equal(page_.pixels, values)
    with Image.open(io.BytesIO(output)) as image:
        assert image.info["compression"] == compression
        assert np.array_equal(np.asarray(image), values[::-1])


def test_tiff_float_predictor_of_libtiff():
    values = RANDOM.random((HEIGHT, WIDTH)).astype(np.float32)
    file = io.BytesIO()
    Image.fromarray(values).save(file, "TIFF", compression="tiff_lzw", tiffinfo={317: 3})
    (page_,), output = turned(file.getvalue())
    assert np.array_equal(page_.pixels, values)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(output))), values[::-1])


@pytest.mark.parametrize("rows", [16, 50])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_tiff_jpeg(mode, rows):
    """JPEG in TIFF has the tables of the input, whether its colours are coded as YCbCr or as RGB."""
    smooth = np.uint8(np.indices((50, 61)).sum(0))[..., None] + np.arange(0, 120, 40, dtype=np.uint8)
    values = smooth[..., 0] if mode == "L" else smooth
    file = io.BytesIO()
    Image.fromarray(values).save(file, "TIFF", compression="jpeg", quality=90, tiffinfo={278: rows})
    with Image.open(file) as image:
        truth = np.asarray(image)
    kind, (page_,) = decode(file.getvalue())
    assert np.abs(page_.pixels.astype(int) - truth).max() <= 1
    again = encode(kind, [page_])
    with Image.open(io.BytesIO(again)) as image:
        assert np.abs(np.asarray(image).astype(int) - truth).mean() < 0.7
        assert image.info["compression"] == "jpeg"
    brighter = encode(kind, [page_._replace(pixels=np.uint8(page_.pixels // 2))])
    assert np.abs(np.asarray(Image.open(io.BytesIO(brighter))).astype(int) - truth // 2).mean() < 1


def one(shape=(HEIGHT, WIDTH, 1), dtype="u1", **options):
    """Return a file of one random page, and its values."""
    values = RANDOM.integers(0, 256, shape).astype(dtype)
    return made_tiff(page(values, **options)), values


UNUSUAL = {
    "old JPEG": (lambda: one(tags={259: (3, [6])})[0], "compressed with old JPEG"),
    "JPEG 2000": (lambda: one(tags={259: (3, [33003])})[0], "compressed with JPEG 2000"),
    "WebP": (lambda: one((HEIGHT, WIDTH, 3), photometric=2, compression=50001)[0], "compressed with WebP"),
    "JPEG XL": (lambda: one(tags={259: (3, [50002])})[0], "compressed with JPEG XL"),
    "unknown compression": (lambda: one(tags={259: (3, [12345])})[0], "compression 12345"),
    "JPEG of 16 bits": (lambda: one(dtype="u2", tags={259: (3, [7])})[0], "compressed with JPEG"),
    "fax of 8 bits": (lambda: one(tags={259: (3, [4])})[0], "compressed for fax"),
    "mixed bits": (lambda: one((HEIGHT, WIDTH, 3), photometric=2, tags={258: (3, [5, 6, 5])})[0], "different types"),
    "mixed formats": (lambda: one((HEIGHT, WIDTH, 3), photometric=2, tags={339: (3, [1, 2, 1])})[0], "cannot read"),
    "24-bit floats": (lambda: one(tags={258: (3, [24]), 339: (3, [3])})[0], "24-bit floats"),
    "subsampled YCbCr": (lambda: one((HEIGHT, WIDTH, 3), photometric=6)[0], "subsampled YCbCr"),
    "a volume": (lambda: one(tags={32997: (4, [5])})[0], "5 slices"),
    "too few channels": (lambda: one((HEIGHT, WIDTH, 2), photometric=2)[0], "2 channels"),
    "a large palette": (lambda: one(dtype="u2", photometric=3, tags={320: (3, [0] * 3 * 65536)})[0], "palette"),
    "PackBits with a predictor": (
        lambda: one(dtype="u1", compression=32773, tags={317: (3, [2])})[0], "PackBits with a predictor"
    ),
    "no palette": (lambda: one(photometric=3)[0], "palette"),
    "sparse": (lambda: one(tags={273: (4, [0]), 279: (4, [0])})[0], "sparse"),
    "negative": (lambda: made_tiff(page(np.full((9, 9, 1), -5, np.int16))), "expected 16-bit values, got -5"),
    "too large": (lambda: made_tiff(page(np.full((9, 9, 1), 70000, np.uint32))), "got 70000"),
    "a DNG": (lambda: one(tags={50706: (1, bytes([1, 4, 0, 0]))})[0], "a DNG of a camera"),
    "raw in a sub-directory": (
        lambda: made_tiff(page(np.zeros((9, 9, 3), "u1"), 2, sub_pages=[page(np.zeros((9, 9, 1), "u2"), 32803)])),
        "raw pixels",
    ),
    "no photometric": (lambda: made_tiff(without(page(np.zeros((9, 9, 1), np.uint8)), 262)), "photometric"),
    "only a mask": (lambda: made_tiff(page(np.ones((9, 9, 1), bool), 4)), "only masks"),
    "pixels beyond the end": (lambda: cut_pixels(), "cut"),
    "too many pixels": (lambda: one(tags={256: (4, [60000]), 257: (4, [60000])})[0], "at most|expected"),
}  # fmt: skip


def without(made, code):
    return {key: value for key, value in made[0].items() if key != code}, *made[1:]


def cut_pixels():
    tags, segments, sub_pages = page(np.zeros((200, 200, 1), np.uint8))
    return made_tiff((tags, [segments[0][:100]], sub_pages))


@pytest.mark.parametrize("name", UNUSUAL)
def test_unusual_tiffs_are_refused_by_name(name, tmp_path):
    make, message = UNUSUAL[name]
    refused(make(), tmp_path, message)


def test_tiff_palette():
    """The palette of the output holds the denoised colours exactly, if they are few."""
    for bits in (1, 2, 4, 8):
        indices = RANDOM.integers(0, 2**bits, (HEIGHT, WIDTH, 1)).astype(np.uint8)
        palette = RANDOM.integers(0, 256, (2**bits, 3))
        tags = {320: (3, (palette.T * 257).ravel().tolist())}
        kind, (page_,) = decode(made_tiff(page(indices, 3, bits, tags=tags)))
        assert np.array_equal(page_.pixels, palette[indices[..., 0]])
        output = encode(kind, [page_._replace(pixels=255 - page_.pixels)])
        with Image.open(io.BytesIO(output)) as image:
            assert image.mode == "P"
            assert np.array_equal(np.asarray(image.convert("RGB")), 255 - page_.pixels)


def test_tiff_palette_of_8_bits():
    """Some programs write colours of 0 … 255 where 16 bits belong. They are not black."""
    indices = RANDOM.integers(0, 16, (HEIGHT, WIDTH, 1)).astype(np.uint8)
    palette = RANDOM.integers(0, 256, (16, 3))
    kind, (page_,) = decode(made_tiff(page(indices, 3, 4, tags={320: (3, palette.T.ravel().tolist())})))
    assert np.array_equal(page_.pixels, palette[indices[..., 0]])
    with Image.open(io.BytesIO(encode(kind, [page_]))) as image:
        assert np.array_equal(np.asarray(image.convert("RGB")), page_.pixels)


@pytest.mark.parametrize("number", [332, 529, 532])
def test_unusual_colours_are_not_for_training(number, tmp_path):
    """Other inks than CMYK's, and other YCbCr than JPEG's: each channel is denoised, but there is no RGB to learn."""
    values = RANDOM.integers(0, 256, (HEIGHT, WIDTH, 4 if number == 332 else 3)).astype(np.uint8)
    tag, usual = {
        332: ((3, [2]), (3, [1])),
        529: (
            (5, struct.pack("<6I", 2126, 10000, 7152, 10000, 722, 10000)),
            (5, struct.pack("<6I", 299, 1000, 587, 1000, 114, 1000)),
        ),
        532: (
            (5, struct.pack("<12I", 16, 1, 235, 1, 128, 1, 240, 1, 128, 1, 240, 1)),
            (5, struct.pack("<12I", 0, 1, 255, 1, 128, 1, 255, 1, 128, 1, 255, 1)),
        ),
    }[number]
    photometric, others = (5, {}) if number == 332 else (6, {530: (3, [1, 1])})
    content = made_tiff(page(values, photometric, tags={number: tag, **others}))
    assert np.array_equal(np.moveaxis(decode(content)[1][0].pixels[..., 0], 0, -1), values)
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(ValueError, match="channels of other colours"):
        read_image(tmp_path / "a.tif", 3)
    (tmp_path / "a.tif").write_bytes(made_tiff(page(values, photometric, tags={number: usual, **others})))
    assert read_image(tmp_path / "a.tif", 3).shape == (HEIGHT, WIDTH, 3)


# TIFF: pages, stacks and descriptions.


@pytest.mark.parametrize("tags", [{254: (4, [1])}, {255: (3, [2])}])
def test_a_preview_is_not_the_picture(tags, tmp_path):
    """A page of reduced resolution that comes first is denoised too, but training takes the picture."""
    values = random_values(3, np.dtype("u1"), 8)
    content = made_tiff(page(values[::4, ::4], 2, tags=tags), page(values, 2))
    (tmp_path / "a.tif").write_bytes(content)
    assert np.array_equal(read_image(tmp_path / "a.tif", 3), values)
    with tifffile.TiffFile(io.BytesIO(turned(content)[1])) as file:
        assert [np.array_equal(page_.asarray(), expected[::-1])
                for page_, expected in zip(file.pages, (values[::4, ::4], values))] == [True, True]  # fmt: skip


def test_imagej_stack_with_one_directory(tmp_path):
    """All planes are denoised, and the description and the layout stay."""
    stack = RANDOM.integers(0, 65536, (5, HEIGHT, WIDTH)).astype(np.uint16)
    tifffile.imwrite(
        tmp_path / "stack.tif", stack, imagej=True, metadata={"axes": "ZYX"}, truncate=True, resolution=(3, 4)
    )
    content = (tmp_path / "stack.tif").read_bytes()
    pages, output = turned(content)
    assert np.array_equal([page_.pixels for page_ in pages], stack)
    with tifffile.TiffFile(io.BytesIO(content)) as before, tifffile.TiffFile(io.BytesIO(output)) as after:
        assert np.array_equal(after.asarray(), stack[:, ::-1])
        assert len(after.pages) == 1
        for code in (270, 282, 283):
            assert after.pages[0].tags[code].value == before.pages[0].tags[code].value
    assert np.array_equal(read_image(tmp_path / "stack.tif", 1)[..., 0], stack[0])


def test_stacks_of_tifffile_and_metamorph():
    stack = RANDOM.integers(0, 256, (4, HEIGHT, WIDTH, 3)).astype(np.uint8)
    file = io.BytesIO()
    tifffile.imwrite(file, stack, photometric="rgb", truncate=True)
    pages, output = turned(file.getvalue())
    assert np.array_equal([page_.pixels for page_ in pages], stack)
    assert np.array_equal(tifffile.imread(io.BytesIO(output)), stack[:, ::-1])
    planes = RANDOM.integers(0, 65536, (3 * HEIGHT, WIDTH, 1)).astype(np.uint16)
    tags, segments, _ = page(planes, tags={257: (4, [HEIGHT]), 278: (4, [HEIGHT]), 33629: (5, bytes(8 * 3))})
    pages = decode(made_tiff((tags | {279: (4, [2 * HEIGHT * WIDTH])}, segments, ())))[1]
    assert np.array_equal(np.concatenate([page_.pixels for page_ in pages]), planes[..., 0])


OME = (
    '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image><Pixels SizeX="37" '
    'SizeY="20" SizeZ="{}" SizeC="1" SizeT="1" DimensionOrder="XYZCT" Type="uint8"><Channel/>{}</Pixels></Image></OME>'
)


@pytest.mark.parametrize(
    ("description", "is_whole"),
    [
        ("ImageJ=1.53t\nimages=2\nslices=2\n", True),
        ("ImageJ=1.53t\nimages=3\nslices=3\n", False),
        (OME.format(2, "<TiffData/>"), True),
        (OME.format(3, "<TiffData/>"), False),
        (OME.format(9, '<TiffData><UUID FileName="a"/></TiffData><TiffData><UUID FileName="b"/></TiffData>'), True),
        ('{"shape": [2, 20, 37]}', True),
        ('{"shape": [3, 20, 37]}', False),
        ("an ordinary description", True),
    ],
)  # fmt: skip
def test_promised_pages(description, is_whole, tmp_path):
    """A description that promises more pages than there are is an error. Otherwise it stays, like each page's tags."""
    values = [random_values(1, np.dtype("u1"), 8) for _ in "ab"]
    pages = [
        page(values[0], tags={270: (2, description.encode() + b"\0"), 65001: (3, [7])}),
        page(values[1], tags={306: (2, b"now\0")}),
    ]
    content = made_tiff(*pages)
    if not is_whole:
        refused(content, tmp_path, "expected a TIFF of 3 images, as its description says, got 2")
        return
    read, output = turned(content)
    assert all(np.array_equal(page_.pixels, value[..., 0]) for page_, value in zip(read, values, strict=True))
    with tifffile.TiffFile(io.BytesIO(output)) as file:
        assert [np.array_equal(page_.asarray(), value[::-1, :, 0]) for page_, value in zip(file.pages, values)] == [
            True
        ] * 2
        assert file.pages[0].description == description.rstrip()
        assert file.pages[0].tags[65001].value == 7
        assert file.pages[1].tags[306].value == "now"


def test_stack_in_one_directory_that_is_cut(tmp_path):
    stack = np.zeros((5, HEIGHT, WIDTH), np.uint8)
    file = io.BytesIO()
    tifffile.imwrite(file, stack, imagej=True, metadata={"axes": "ZYX"}, truncate=True)
    refused(file.getvalue()[: -2 * HEIGHT * WIDTH], tmp_path, "got fewer: it is cut")
    compressed = page(np.zeros((HEIGHT, WIDTH, 1), np.uint8), compression=8, tags={270: (2, b"ImageJ=1\nimages=5\n\0")})
    refused(made_tiff(compressed), tmp_path, "5 images in one directory")


def test_pages_that_are_not_there():
    """A chain of directories that leads out of the file, or in a circle, is an error, and not a shorter file."""
    page_ = page(np.zeros((HEIGHT, WIDTH, 1), np.uint8))
    (first,) = struct.unpack("<I", made_tiff(page_)[4:8])
    for place in (10**6, first):
        with pytest.raises(OSError, match=r"does not end|twice"):
            decode(made_tiff(page_, chain_end=place))


def test_pixels_among_the_tags():
    """Writing them would destroy the file. It is refused."""
    kind, pages = decode(one(tags={273: (4, [4])})[0])
    with pytest.raises(OSError, match="lie where its tags are"):
        encode(kind, pages)


def test_sub_directories_and_masks(tmp_path):
    """Reduced images in sub-directories are denoised too. A mask stays as it is."""
    values = [random_values(3, np.dtype("u1"), 8), random_values(3, np.dtype("u1"), 8)]
    mask = RANDOM.random((HEIGHT, WIDTH, 1)) < 0.5
    content = made_tiff(
        page(values[0], 2, sub_pages=[page(values[1], 2, tags={254: (4, [1])})]), page(mask, 4, tags={254: (4, [4])})
    )
    pages, output = turned(content)
    assert len(pages) == 2
    with tifffile.TiffFile(io.BytesIO(output)) as file:
        assert np.array_equal(file.pages[0].asarray(), values[0][::-1])
        assert np.array_equal(file.pages[0].pages[0].asarray(), values[1][::-1])
        assert np.array_equal(file.pages[1].asarray(), mask[..., 0])


def test_tiff_metadata_stays(tmp_path):
    """GeoTIFF, XMP, IPTC, ICC, EXIF and private tags: an output is its input but for the pixels."""
    geo = [(33550, 12, 3, (10.0, 10.0, 0.0), False), (34735, 3, 8, (1, 1, 0, 1, 1024, 0, 1, 1), False)]
    others = [(700, 1, 5, b"<xmp>", False), (33723, 7, 4, b"iptc", False), (34675, 7, 7, b"profile", False),
              (65111, 4, 1, 12345, False), (42113, 2, 0, "-9999", False)]  # fmt: skip
    values = random_values(1, np.dtype("u2"), 16)[..., 0]
    file = io.BytesIO()
    tifffile.imwrite(
        file, values, photometric="minisblack", extratags=geo + others, resolution=(300, 300), software="x"
    )
    _, output = turned(file.getvalue())
    with tifffile.TiffFile(io.BytesIO(file.getvalue())) as before, tifffile.TiffFile(io.BytesIO(output)) as after:
        assert {tag.code: tag.value for tag in after.pages[0].tags} == {
            tag.code: tag.value for tag in before.pages[0].tags
        }
        assert np.array_equal(after.asarray(), values[::-1])


@pytest.mark.parametrize("suffix", ["tif", "png", "jpg"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(orientation, suffix, tmp_path):
    """It is applied for training, and stays as it is in denoising."""
    values = np.uint8(np.indices((16, 24)).sum(0) * 5)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"image.{suffix}"
    Image.fromarray(values).save(path, exif=exif, **({"quality": 100} if suffix == "jpg" else {}))
    turns = {1: values, 2: values[:, ::-1], 3: values[::-1, ::-1], 4: values[::-1], 5: values.T, 6: values[::-1].T,
             7: values[::-1, ::-1].T, 8: values[:, ::-1].T}  # fmt: skip
    assert np.abs(read_image(path, 1)[..., 0].astype(int) - turns[orientation]).max() <= (2 if suffix == "jpg" else 0)
    kind, (page_,) = decode(path.read_bytes())
    assert page_.pixels.shape == (16, 24)
    with Image.open(io.BytesIO(encode(kind, [page_]))) as image:
        assert image.getexif()[0x0112] == orientation


def test_declared_white():
    for tags, white in (
        ({281: (3, [4095])}, 4095),
        ({281: (3, [1000])}, None),
        ({281: (3, [65535])}, None),
        ({}, None),
    ):
        assert decode(made_tiff(page(np.zeros((9, 9, 1), np.uint16), tags=tags)))[1][0].white == white


def tiles_at(tiles, chosen, compression):
    """Return a TIFF of 2 × 3 tiles of 32 × 32 grey pixels. `chosen` are the numbers of its tiles in `tiles`."""
    stacked = np.vstack(tiles)[..., None]
    tags, packed, _ = page(stacked, tile=(32, 32), compression=compression)
    offsets = np.cumsum([8, *(len(tile) + len(tile) % 2 for tile in packed)])  # where `made_tiff` writes them
    places = {324: (4, [int(offsets[index]) for index in chosen]), 325: (4, [len(packed[index]) for index in chosen])}
    return made_tiff((tags | {256: (4, [96]), 257: (4, [64])} | places, packed, ()))


@pytest.mark.parametrize("compression", [1, 8])
@pytest.mark.parametrize("chosen", [(0, 1, 2, 3, 4, 5), (0, 1, 0, 0, 0, 0), (0, 0, 0, 0, 1, 0)])
def test_tiles_that_share_their_bytes(chosen, compression):
    tiles = [RANDOM.integers(0, 256, (32, 32)).astype(np.uint8) for _ in range(6)]
    content = tiles_at(tiles, chosen, compression)
    rows = [np.hstack([tiles[index] for index in chosen[start : start + 3]]) for start in (0, 3)]
    _, output = turned(content)
    assert np.array_equal(tifffile.imread(io.BytesIO(output)), np.vstack(rows)[::-1])


def test_pages_that_share_their_bytes():
    """The second page is the first one again: other pixels of both must not meet in one place."""
    file = io.BytesIO()
    values = RANDOM.integers(0, 256, (2, HEIGHT, WIDTH)).astype(np.uint8)
    with tifffile.TiffWriter(file) as writer:
        for value in values:
            writer.write(value, contiguous=False)
    with tifffile.TiffFile(io.BytesIO(file.getvalue())) as tiff:
        offsets = [page_.tags[273].valueoffset for page_ in tiff.pages]
        start = tiff.pages[0].dataoffsets[0]
    content = bytearray(file.getvalue())
    content[offsets[1] : offsets[1] + 4] = struct.pack("<I", start)
    kind, pages = decode(bytes(content))
    assert np.array_equal(pages[1].pixels, values[0])
    written = encode(kind, [pages[0]._replace(pixels=255 - values[0]), pages[1]._replace(pixels=values[1])])
    assert np.array_equal(tifffile.imread(io.BytesIO(written), key=range(2)), [255 - values[0], values[1]])


def test_pages_that_share_a_palette_are_refused():
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for _ in range(2):
            colours = np.zeros((3, 256), np.uint16)
            writer.write(np.zeros((16, 16), np.uint8), photometric="palette", colormap=colours, contiguous=False)
    kind, pages = decode(file.getvalue())
    encode(kind, pages)  # each has its own
    with tifffile.TiffFile(io.BytesIO(file.getvalue())) as tiff:
        first, second = (page_.tags[320] for page_ in tiff.pages)
    content = bytearray(file.getvalue())
    content[second.offset + 8 : second.offset + 12] = struct.pack("<I", first.valueoffset)
    kind, pages = decode(bytes(content))
    with pytest.raises(OSError, match="pages share one palette; save it as RGB"):
        encode(kind, pages)


def strips_of_pages(values, compression, counts=None, moved=None, shares=None):
    """Return a TIFF of two grey pages `values`, each of two strips.

    Args:
        values: uint8 `(2, 20, 37)`.
        compression: 1 (none) or 8 (Deflate).
        counts: sizes of the strips, in both pages, instead of the right ones.
        moved: by how many bytes the second page's strips lie behind those of the first; None if they are others.
        shares: number of a tag of the first page that is the second page's too, with 0 as white.
    """
    content, lists = b"II*\0" + bytes(4), []
    for value in values:
        packed = [half.tobytes() if compression == 1 else zlib.compress(half.tobytes()) for half in np.split(value, 2)]
        sizes = [len(half) for half in packed]
        lists.append({273: [len(content), len(content) + sizes[0]], 279: counts or sizes})
        content += b"".join(packed)
    if moved is not None:
        lists[1][273] = [offset + moved for offset in lists[0][273]]
    content += bytes(len(content) % 2)
    places = [{}, {}]
    for index, tag in itertools.product((0, 1), (273, 279)):
        places[index][tag] = places[0][tag] if index and tag == shares else len(content)
        content += struct.pack("<2I", *lists[index][tag])
    first, size = len(content), 2 + 9 * 12 + 4
    for index, following in enumerate((first + size, 0)):
        tags = [(256, 1, WIDTH), (257, 1, HEIGHT), (258, 1, 8), (259, 1, compression), (262, 1, 1 - index)]
        tags += [(273, 2, places[index][273]), (277, 1, 1), (278, 1, HEIGHT // 2), (279, 2, places[index][279])]
        content += struct.pack("<H", 9) + b"".join(struct.pack("<HHII", tag, 4, *rest) for tag, *rest in tags)
        content += struct.pack("<I", following)
    return content[:4] + struct.pack("<I", first) + content[8:]


@pytest.mark.parametrize("moved", [None, 0, 150])
@pytest.mark.parametrize("counts", [[1, 1], [100, 100]])
def test_pages_that_share_their_bytes_beyond_their_stated_sizes(counts, moved):
    """Some programs state wrong sizes of pixels that are not compressed."""
    values = RANDOM.integers(0, 256, (2, HEIGHT, WIDTH)).astype(np.uint8)
    kind, pages = decode(strips_of_pages(values, 1, counts, moved))
    start = HEIGHT * WIDTH if moved is None else moved
    stored = values.tobytes()[start : start + HEIGHT * WIDTH]
    second = 255 - np.frombuffer(stored, np.uint8).reshape(HEIGHT, WIDTH)  # in which 0 is white
    assert np.array_equal(pages[1].pixels, second)
    written = encode(kind, [pages[0]._replace(pixels=values[0] ^ 90), pages[1]._replace(pixels=second ^ 60)])
    with Image.open(io.BytesIO(written)) as image:
        assert np.array_equal(np.asarray(image), values[0] ^ 90)
        image.seek(1)
        assert np.array_equal(np.asarray(image), second ^ 60)


def test_pages_that_share_a_list_of_strips_are_refused():
    """The list is wrong for one page if the other page's strips get other places. If they do not, it stays."""
    values = RANDOM.integers(0, 256, (2, HEIGHT, WIDTH)).astype(np.uint8)
    with pytest.raises(OSError, match="pages share one list of strips"):
        turned(strips_of_pages(values, 1, shares=273))
    kind, pages = decode(strips_of_pages(values, 8, shares=279))
    with pytest.raises(OSError, match="pages share one list of strips"):
        encode(kind, [page_._replace(pixels=page_.pixels & 7) for page_ in pages])
    _, output = turned(strips_of_pages(values, 1, shares=279))
    assert np.array_equal(tifffile.imread(io.BytesIO(output), key=range(2)), values[:, ::-1])


def test_nodata_is_said_to_be_lost():
    file = io.BytesIO()
    tifffile.imwrite(file, np.zeros((16, 16), np.uint16), extratags=[(42113, 2, 0, "65535", True)])
    assert "nodata" in decode(file.getvalue())[1][0].lost[0]


def test_planar_ycbcr_with_jpeg_is_refused(tmp_path):
    file = io.BytesIO()
    tifffile.imwrite(file, np.zeros((3, 16, 16), np.uint8), photometric="rgb", planarconfig="separate")
    with tifffile.TiffFile(io.BytesIO(file.getvalue())) as tiff:
        tags = tiff.pages[0].tags
        places = {code: tags[code].offset + 8 for code in (259, 262)}
    content = bytearray(file.getvalue())
    for code, value in ((259, 7), (262, 6)):
        content[places[code] : places[code] + 2] = struct.pack("<H", value)
    refused(bytes(content), tmp_path, "YCbCr with JPEG in separate planes")


def test_premultiplied_colours_of_a_declared_white(tmp_path):
    pixels = np.full((8, 8, 4), 1000, np.uint16)
    pixels[..., 3] = 2000
    tags = [(281, 3, 4, (4095,) * 4, True)]
    tifffile.imwrite(tmp_path / "image.tif", pixels, photometric="rgb", extrasamples=["assocalpha"], extratags=tags)
    assert np.array_equal(read_image(tmp_path / "image.tif", 3), np.full((8, 8, 3), 1000 * 4095 // 2000))


def test_premultiplied_colours_are_divided_for_training(tmp_path):
    pixels = np.dstack([np.full((9, 9, 3), 50, np.uint8), np.full((9, 9), 100, np.uint8)])
    (tmp_path / "a.tif").write_bytes(made_tiff(page(pixels, 2, extras=(1,))))
    assert (read_image(tmp_path / "a.tif", 3) == 127).all()


def test_cmyk_for_training(tmp_path):
    pixels = random_values(4, np.dtype("u1"), 8)
    (tmp_path / "a.tif").write_bytes(made_tiff(page(pixels, 5)))
    assert np.array_equal(read_image(tmp_path / "a.tif", 3), np.asarray(Image.fromarray(pixels, "CMYK").convert("RGB")))


# PNG.


def png_chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def made_png(
    values, bits, colours, before_palette=(), before_pixels=(), after_pixels=(), palette=None, interlaced=False
):
    """Return a PNG file by hand from `(height, width, samples)`."""
    height, width, _ = values.shape
    passes = [(0, 0, 1, 1)]
    if interlaced:
        passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    rows = b""
    for top, left, down, across in passes:
        for row in values[top::down, left::across]:
            text = "".join(f"{value:0{bits}b}" for value in row.ravel())
            text += "0" * (-len(text) % 8)
            rows += b"\0" + int(text, 2).to_bytes(len(text) // 8, "big") if text else b""
    header = struct.pack(">IIBBBBB", width, height, bits, colours, 0, 0, interlaced)
    chunks = [(b"IHDR", header), *before_palette, *([(b"PLTE", palette)] if palette else []), *before_pixels,
              (b"IDAT", zlib.compress(rows)), *after_pixels, (b"IEND", b"")]  # fmt: skip
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def chunks_of(content):
    """Return the chunks of a PNG file: a list of `(name, data)`."""
    chunks, place = [], 8
    while place < len(content):
        size = int.from_bytes(content[place : place + 4], "big")
        chunks.append((content[place + 4 : place + 8], content[place + 8 : place + 8 + size]))
        place += size + 12
    return chunks


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(
    ("bits", "colours"), [(1, 0), (2, 0), (4, 0), (8, 0), (16, 0), (8, 2), (16, 2), (8, 4), (16, 4), (8, 6), (16, 6)]
)
def test_png(bits, colours, interlaced, tmp_path):
    samples = {0: 1, 2: 3, 4: 2, 6: 4}[colours]
    values = RANDOM.integers(0, 2**bits, (HEIGHT, WIDTH, samples))
    content = made_png(values, bits, colours, interlaced=interlaced)
    if bits == 16 and colours:
        refused(content, tmp_path, "16-bit colour or alpha")
        return
    (page_,), output = turned(content)
    dtype = bool if bits == 1 else np.uint8 if bits <= 8 else np.uint16
    expected = (values if bits in (1, 8, 16) else values * (255 // (2**bits - 1))).astype(dtype)
    expected = expected[..., 0] if samples == 1 else expected
    assert page_.pixels.dtype == dtype
    assert np.array_equal(page_.pixels, expected)
    assert chunks_of(output)[0][1][8:10] == bytes([bits, colours])  # the depth and the colours stay
    assert np.array_equal(decode(output)[1][0].pixels, expected[::-1])
    (tmp_path / "a.png").write_bytes(content)
    training = np.uint8(255 * expected) if bits == 1 else expected
    training = training if samples == 1 else training[..., : samples - (colours >= 4)]
    got = read_image(tmp_path / "a.png", 1 if colours in (0, 4) else 3)
    assert np.array_equal(got, training.reshape(got.shape))


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("has_alpha", [False, True])
def test_png_palette(bits, has_alpha):
    values = RANDOM.integers(0, 2**bits, (HEIGHT, WIDTH, 1))
    palette = RANDOM.integers(0, 256, (2**bits, 3)).astype(np.uint8)
    alpha = RANDOM.integers(0, 256, 2**bits).astype(np.uint8)
    extra = [(b"tRNS", alpha.tobytes())] if has_alpha else []
    kind, (page_,) = decode(made_png(values, bits, 3, (), extra, palette=palette.tobytes()))
    colours = np.hstack([palette, alpha[:, None]]) if has_alpha else palette
    assert np.array_equal(page_.pixels, colours[values[..., 0]])
    changed = page_.pixels ^ 255
    output = encode(kind, [page_._replace(pixels=changed)])
    assert has_alpha or chunks_of(output)[0][1][8:10] == bytes([bits, 3])  # Pillow 11.0 takes more bits with alpha
    with Image.open(io.BytesIO(output)) as image:
        assert image.mode == "P"
        assert np.array_equal(np.asarray(image.convert("RGBA" if has_alpha else "RGB")), changed)


@pytest.mark.parametrize(("colours", "bits"), [(2, 1), (3, 2), (16, 4), (17, 8), (200, 8)])
def test_png_palette_gets_the_depth_of_its_new_colours(colours, bits):
    kind, (page_,) = decode(made_png(np.zeros((HEIGHT, WIDTH, 1), int), 2, 3, palette=bytes(12)))
    changed = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH, 1).repeat(3, 2) % colours
    output = encode(kind, [page_._replace(pixels=changed.astype(np.uint8))])
    assert chunks_of(output)[0][1][8:10] == bytes([bits, 3])
    with Image.open(io.BytesIO(output)) as image:
        assert np.array_equal(np.asarray(image.convert("RGB")), changed)


FIRST_CHUNKS = [
    (b"gAMA", struct.pack(">I", 100000)), (b"cHRM", struct.pack(">8I", *range(8))), (b"sRGB", b"\0"),
    (b"cICP", bytes([9, 16, 0, 1])), (b"mDCV", bytes(24)), (b"cLLI", bytes(8)), (b"sBIT", b"\5"),
]  # fmt: skip
NEXT_CHUNKS = [(b"pHYs", struct.pack(">IIB", 5000, 6000, 1)), (b"bKGD", struct.pack(">H", 7)),
               (b"tIME", bytes([7, 230, 1, 2, 3, 4, 5])),
               (b"eXIf", b"MM\0*\0\0\0\x08\0\0\0\0\0\0"), (b"prVt", b"private, safe to copy")]  # fmt: skip
TEXT = b"Comment\0" + bytes(RANDOM.integers(65, 91, 3 << 20).astype(np.uint8))
LAST_CHUNKS = [(b"tEXt", TEXT), (b"zTXt", b"Long\0\0" + zlib.compress(bytes(3 << 20))),
               (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<x:xmpmeta/>")]  # fmt: skip


def test_png_chunks_stay():
    """Also texts that Pillow refuses to read. Chunks that depend on the pixels are left out, and the job says so."""
    values = RANDOM.integers(0, 256, (HEIGHT, WIDTH, 1))
    content = made_png(values, 8, 0, FIRST_CHUNKS, [*NEXT_CHUNKS, (b"prVT", b"private, unsafe")], LAST_CHUNKS)
    (page_,), output = turned(content)
    expected = [chunk for chunk in chunks_of(content) if chunk[0] not in (b"IDAT", b"prVT")]
    assert [chunk for chunk in chunks_of(output) if chunk[0] != b"IDAT"] == expected
    names = [name for name, _ in chunks_of(output)]
    assert names.index(b"iCCP" if b"iCCP" in names else b"gAMA") < names.index(b"IDAT") < names.index(b"tEXt")
    assert page_.lost == ("the chunk prVT, which depends on the pixels",)


def test_png_chunks_of_a_palette():
    palette = bytes(range(48))
    chunks = (
        [(b"gAMA", struct.pack(">I", 100000)), (b"sBIT", b"\5\5\5")],
        [(b"hIST", bytes(32)), (b"bKGD", b"\3"), (b"pHYs", bytes(9))],
    )
    (page_,), output = turned(made_png(np.zeros((HEIGHT, WIDTH, 1), int), 8, 3, *chunks, palette=palette))
    names = [name for name, _ in chunks_of(output)]
    assert names.index(b"gAMA") < names.index(b"PLTE") < names.index(b"pHYs") < names.index(b"IDAT")
    assert set(page_.lost) == {"the significant bits", "the histogram", "the background colour"}


def test_png_with_a_transparent_colour(tmp_path):
    values = RANDOM.integers(0, 4, (HEIGHT, WIDTH, 3))
    kind, (page_,) = decode(made_png(values, 8, 2, (), [(b"tRNS", struct.pack(">3H", 1, 2, 3))]))
    assert np.array_equal(page_.pixels[..., 3], np.where((values == [1, 2, 3]).all(-1), 0, 255))
    assert np.array_equal(decode(encode(kind, [page_]))[1][0].pixels, page_.pixels)
    deep = made_png(RANDOM.integers(0, 65536, (HEIGHT, WIDTH, 1)), 16, 0, (), [(b"tRNS", b"\0\1")])
    with pytest.raises(ValueError, match="transparent colour"):
        decode(deep)


def test_png_white_and_animation(tmp_path):
    values = RANDOM.integers(0, 4096, (HEIGHT, WIDTH, 1))
    assert decode(made_png(values, 16, 0, [(b"sBIT", b"\x0c")]))[1][0].white == 4095
    assert (
        decode(made_png(values * 16, 16, 0, [(b"sBIT", b"\x0c")]))[1][0].white is None
    )  # scaled, as the standard asks
    animated = made_png(values % 256, 8, 0, [(b"acTL", struct.pack(">II", 3, 0))])
    refused(animated, tmp_path, "an animation of 3")
    (page_,), output = turned(made_png(values % 256, 8, 0, [(b"acTL", struct.pack(">II", 1, 0))]))
    assert page_.lost == ("the animation",)
    assert b"acTL" not in output


def test_png_says_what_else_is_lost():
    """What follows the end, and the palette that an RGB file suggests, with its histogram."""
    values = RANDOM.integers(0, 256, (HEIGHT, WIDTH, 3))
    (page_,), output = turned(made_png(values, 8, 2, (), [(b"hIST", bytes(6))], palette=bytes(9)) + b"a video")
    assert set(page_.lost) == {"the suggested palette", "the histogram", "7 bytes after the picture"}
    assert [name for name, _ in chunks_of(output)] == [b"IHDR", b"IDAT", b"IEND"]


@pytest.mark.parametrize(("palette", "colours"), [(bytes(9), 3), (b"", 0)])
def test_png_with_numbers_beyond_its_palette(palette, colours, tmp_path):
    values = np.full((HEIGHT, WIDTH, 1), 3)
    refused(made_png(values, 8, 3, palette=palette), tmp_path, f"at most {colours} colours, got the number 3")


@pytest.mark.parametrize(
    ("bits", "colour"), [(bits, colour) for bits in (1, 2, 4, 8) for colour in (0, 1, 2**bits - 1)]
)
def test_png_of_greys_of_which_one_is_transparent(bits, colour):
    values = RANDOM.integers(0, 2**bits, (HEIGHT, WIDTH, 1))
    (page_,), output = turned(made_png(values, bits, 0, [(b"tRNS", struct.pack(">H", colour))]))
    expected = np.dstack([values * 255 // (2**bits - 1), np.where(values == colour, 0, 255)])
    assert np.array_equal(page_.pixels, expected)
    with Image.open(io.BytesIO(output)) as image:
        assert np.array_equal(np.asarray(image.convert("LA")), expected[::-1])


def test_png_with_a_critical_chunk(tmp_path):
    """By the standard, a program that does not know it must not show the picture."""
    values = RANDOM.integers(0, 256, (HEIGHT, WIDTH, 1))
    refused(made_png(values, 8, 0, [(b"CgBI", bytes(4))]), tmp_path, "the chunk CgBI")


# JPEG.

SMOOTH = np.dstack([np.uint8(128 + 100 * np.sin(np.indices((50, 61))[axis] / 9 + axis)) for axis in (0, 1, 0)])


def jpeg(pixels=SMOOTH, mode="RGB", **options):
    file = io.BytesIO()
    Image.fromarray(pixels, mode).save(file, "JPEG", **options)
    return file.getvalue()


def with_segments(content, *segments):
    """Insert segments `(marker, data)` behind the first one."""
    place = 4 + int.from_bytes(content[4:6], "big")
    added = b"".join(bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data for marker, data in segments)
    return content[:place] + added + content[place:]


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("quality", [30, 75, 98])
def test_jpeg_keeps_tables_sampling_and_order(quality, subsampling, progressive):
    content = jpeg(quality=quality, subsampling=subsampling, progressive=progressive)
    kind, (page_,) = decode(content)
    truth = np.asarray(Image.open(io.BytesIO(content)))
    assert np.array_equal(page_.pixels, truth)
    assert not page_.lost
    output = encode(kind, [page_])
    with Image.open(io.BytesIO(content)) as before, Image.open(io.BytesIO(output)) as after:
        assert after.quantization == before.quantization
        assert JpegImagePlugin.get_sampling(after) == JpegImagePlugin.get_sampling(before) == subsampling
        assert bool(after.info.get("progressive")) == progressive
        assert np.abs(np.asarray(after).astype(int) - truth).mean() < 2
    assert len(output) < 1.2 * len(content)


@pytest.mark.parametrize("name", ["grey", "CMYK", "RGB"])
def test_jpeg_colours(name, tmp_path):
    if name == "grey":
        content = jpeg(SMOOTH[..., 0], "L", quality=90)
    elif name == "CMYK":
        content = jpeg(np.dstack([SMOOTH, SMOOTH[..., 0]]), "CMYK", quality=90)
    else:
        content = jpeg(quality=90, keep_rgb=True)
    with Image.open(io.BytesIO(content)) as image:
        truth, tables, adobe = np.asarray(image), image.quantization, image.info.get("adobe_transform")
        training = np.asarray(image.convert("RGB"))
    kind, (page_,) = decode(content)
    planes = np.moveaxis(page_.pixels[..., 0], 0, -1) if name == "CMYK" else page_.pixels
    assert np.array_equal(planes, truth)
    with Image.open(io.BytesIO(encode(kind, [page_]))) as after:
        assert after.quantization == tables
        assert after.info.get("adobe_transform") == adobe
        assert np.abs(np.asarray(after).astype(int) - truth).mean() < 1.5
    (tmp_path / "a.jpg").write_bytes(content)
    assert np.array_equal(read_image(tmp_path / "a.jpg", 3), training)


def test_jpeg_cmyk_without_adobe_is_not_a_negative():
    content = jpeg(np.dstack([SMOOTH, SMOOTH[..., 0]]), "CMYK", quality=90)
    place = content.index(b"\xff\xee")
    plain = content[:place] + content[place + 2 + int.from_bytes(content[place + 2 : place + 4], "big") :]
    adobe, other = (decode(file)[1][0].pixels for file in (content, plain))
    assert np.array_equal(other, 255 - adobe)


def test_jpeg_segments_stay():
    """EXIF in several segments, XMP, IPTC, comments, the colour profile and the density."""
    exif = Image.Exif()
    exif[0x010F] = "maker"
    first = b"Exif\0\0" + exif.tobytes()[6:] + bytes(60000)
    segments = [(0xE1, first), (0xE1, b"Exif\0\0" + bytes(60000)), (0xE1, b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta/>"),
                (0xE2, b"ICC_PROFILE\0\1\1a profile"), (0xED, b"Photoshop 3.0\x008BIM\4\4\0\0\0\0\0\2ab"),
                (0xFE, b"a comment"),
                (0xEB, b"something of a camera")]  # fmt: skip
    content = with_segments(jpeg(quality=90, dpi=(123, 45)), *segments)
    (page_,), output = turned(content)
    assert not page_.lost
    start = content.index(b"\xff\xdb")  # the header before the tables
    assert output.startswith(content[:start])
    with Image.open(io.BytesIO(output)) as image:
        assert image.info["jfif_density"] == (123, 45)
        assert image.getexif()[0x010F] == "maker"


def test_jpeg_says_what_is_lost():
    images = [Image.fromarray(SMOOTH), Image.fromarray(SMOOTH[:20, :20])]
    file = io.BytesIO()
    images[0].save(file, "MPO", save_all=True, append_images=images[1:])
    kind, (page_,) = decode(file.getvalue())
    assert re.fullmatch(r"[\d,]+ bytes after the picture, such as a preview or a video", page_.lost[0])
    with Image.open(io.BytesIO(encode(kind, [page_]))) as image:
        assert (image.format, image.size) == ("JPEG", (61, 50))
    thumbnail = jpeg(SMOOTH[:20, :20], quality=50)
    content = with_segments(jpeg(quality=90), (0xE1, b"Exif\0\0" + thumbnail))
    assert not decode(content)[1][0].lost  # the end of a thumbnail is not the end of the picture
    assert decode(content + b"a video" * 9)[1][0].lost == ("63 bytes after the picture, such as a preview or a video",)


@pytest.mark.parametrize(
    ("frame", "bits", "name"),
    [(0xC3, 8, "lossless"), (0xC1, 12, "12-bit"), (0xF7, 8, "JPEG-LS"), (0xC5, 8, "hierarch")],
)
def test_jpegs_of_other_kinds_are_named(frame, bits, name, tmp_path):
    content = jpeg()
    place = content.index(b"\xff\xc0")
    changed = content[: place + 1] + bytes([frame]) + content[place + 2 : place + 4] + bytes([bits])
    refused(changed + content[place + 5 :], tmp_path, f"a JPEG that is {name}")


def test_jpeg_of_four_channels_says_that_it_loses_sampling():
    content = bytearray(jpeg(np.dstack([SMOOTH, SMOOTH[..., 0]]), "CMYK", quality=90))
    frame = content.index(b"\xff\xc0")
    assert not decode(bytes(content))[1][0].lost
    content[frame + 11] = content[frame + 20] = 0x22  # the first and the last channel have twice the resolution
    with Image.open(io.BytesIO(content)) as image:
        assert [channel[1:3] for channel in image.layer] == [(2, 2), (1, 1), (1, 1), (2, 2)]
        assert not has_known_sampling(image)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_damaged_exif_is_ignored(suffix, tmp_path):
    """As viewers do. It is kept."""
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(SMOOTH).save(path, exif=b"Exif\0\0not a TIFF" + bytes(9))
    assert read_image(path, 3).shape == SMOOTH.shape
    assert b"not a TIFF" in turned(path.read_bytes())[1]


# BMP.


def made_bmp(rows, bits, masks=None, palette=b"", top_down=False, size=40):
    """Return a BMP file by hand. `rows` are bytes `(height, bytes of a row)`, the upper row first."""
    stride = -(-rows.shape[1] // 4) * 4
    rows = np.pad(rows, [(0, 0), (0, stride - rows.shape[1])])
    data = (rows if top_down else rows[::-1]).tobytes()
    height = -len(rows) if top_down else len(rows)
    info = struct.pack(
        "<IiiHHIIiiII", size, WIDTH, height, 1, bits, 3 if masks else 0, len(data), 2835, 2835, len(palette) // 4, 0
    )
    info += b"".join(struct.pack("<I", mask) for mask in masks or ())
    info = info.ljust(max(size, len(info)), b"\0") + palette
    return b"BM" + struct.pack("<IHHI", 14 + len(info) + len(data), 0, 0, 14 + len(info)) + info + data


@pytest.mark.parametrize("top_down", [False, True])
@pytest.mark.parametrize(
    "name",
    [
        "24",
        "32",
        "V4 alpha",
        "V5 alpha",
        "565",
        "555",
        "8 grey",
        "8 palette",
        "4 palette",
        "1 palette",
        "1",
        "8 of two",
    ],
)
def test_bmp(name, top_down, tmp_path):
    """All of a BMP but its pixels stays: also alpha, and the 5 and 6 bits of a channel."""
    rgb = RANDOM.integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    alpha = RANDOM.integers(0, 256, (HEIGHT, WIDTH)).astype(np.uint8)
    bgra = np.dstack([rgb[..., ::-1], alpha])
    masks = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    bits = int(re.match(r"\d+", name)[0]) if name[0].isdigit() and name[0] != "5" else 32
    if name == "24":
        expected, content = rgb, made_bmp(bgra[..., :3].reshape(HEIGHT, -1), 24, top_down=top_down)
    elif name == "32":
        expected, content = rgb, made_bmp(bgra.reshape(HEIGHT, -1), 32, top_down=top_down)
    elif "alpha" in name:
        expected = np.dstack([rgb, alpha])
        content = made_bmp(bgra.reshape(HEIGHT, -1), 32, masks, top_down=top_down, size=108 if "4" in name else 124)
    elif name in ("565", "555"):
        green = 6 if name == "565" else 5
        fields = [RANDOM.integers(0, 2**field, (HEIGHT, WIDTH)) for field in (5, green, 5)]
        words = np.uint16(fields[0] << (5 + green) | fields[1] << 5 | fields[2])
        expected = np.dstack([np.uint8(field * 255 // (2**width - 1)) for field, width in zip(fields, (5, green, 5))])
        masks = (0xF800, 0x7E0, 0x1F) if green == 6 else (0x7C00, 0x3E0, 0x1F)
        content = made_bmp(words.view(np.uint8).reshape(HEIGHT, -1), 16, masks, top_down=top_down)
    else:
        count = 2 if name.endswith("two") else 2**bits
        palette = RANDOM.integers(0, 256, (count, 3)).astype(np.uint8)
        if name == "8 grey":
            palette = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
        elif name in ("1", "8 of two"):
            palette = np.array([[0] * 3, [255] * 3], np.uint8)
        indices = RANDOM.integers(0, count, (HEIGHT, WIDTH))
        text = ["".join(f"{index:0{bits}b}" for index in row) for row in indices]
        rows = np.array(
            [list(int(row + "0" * (-len(row) % 8), 2).to_bytes(-(-len(row) // 8), "big")) for row in text], np.uint8
        )
        content = made_bmp(rows, bits, palette=np.pad(palette[:, ::-1], [(0, 0), (0, 1)]).tobytes(), top_down=top_down)
        expected = indices.astype(bool) if name == "1" else palette[indices]
        expected = expected[..., 0] if name == "8 grey" else expected
    (page_,), output = turned(content)
    assert page_.pixels.dtype == expected.dtype
    assert np.abs(page_.pixels.astype(int) - expected).max() <= (1 if "5" in name and "V" not in name else 0)
    assert np.array_equal(decode(output)[1][0].pixels, page_.pixels[::-1])
    assert len(output) == len(content)
    assert output[:54] == content[:54]
    (tmp_path / "a.bmp").write_bytes(content)
    training = (
        page_.pixels if page_.pixels.ndim == 3 else np.uint8(page_.pixels * (255 if name == "1" else 1))[..., None]
    )
    assert np.array_equal(read_image(tmp_path / "a.bmp", 3), np.broadcast_to(training[..., :3], (HEIGHT, WIDTH, 3)))


def test_run_length_encoded_bmp():
    palette = b"".join(bytes([value, 0, 255 - value, 0]) for value in range(256))
    content = bytearray(made_bmp(np.zeros((HEIGHT, WIDTH), np.uint8), 8, palette=palette))
    runs = b"".join(bytes([WIDTH, 10 * row, 0, 0]) for row in range(HEIGHT)) + b"\0\1"
    content[30:34] = struct.pack("<I", 1)
    kind, (page_,) = decode(bytes(content[: 54 + 1024]) + runs)
    rows = 10 * np.arange(HEIGHT)[::-1]
    assert np.array_equal(page_.pixels[:, 5], np.stack([255 - rows, 0 * rows, rows], axis=-1))
    assert np.array_equal(decode(encode(kind, [page_]))[1][0].pixels, page_.pixels)


def test_run_length_encoded_bmp_keeps_its_resolution():
    content = bytearray(made_bmp(np.zeros((HEIGHT, WIDTH), np.uint8), 8, palette=bytes(range(256)) * 4))
    content[30:34] = struct.pack("<I", 1)
    content[38:46] = struct.pack("<ii", 12345, 6789)
    runs = bytes([WIDTH, 1, 0, 0]) * HEIGHT + b"\0\1"
    assert turned(bytes(content[: 54 + 1024]) + runs)[1][38:46] == content[38:46]


@pytest.mark.parametrize("colours", [2, 16, 120, 255, 256])
def test_bmp_with_a_short_palette_of_greys(colours):
    """Pillow calls it grey. But an index beyond its palette would be no colour."""
    palette = b"".join(bytes([value, value, value, 0]) for value in range(colours))
    indices = RANDOM.integers(0, colours, (HEIGHT, WIDTH)).astype(np.uint8)
    kind, (page_,) = decode(made_bmp(indices, 8, palette=palette))
    assert np.array_equal(page_.pixels if page_.pixels.ndim == 2 else page_.pixels[..., 0], indices)
    bright = page_.pixels // 2 + np.uint8(colours // 2)
    (output,) = decode(encode(kind, [page_._replace(pixels=bright)]))[1]
    error = np.abs(output.pixels.astype(int) - bright).max()
    assert error == 0 if colours == 256 else error <= colours // 2


def test_run_length_encoded_bmp_says_that_its_colour_space_is_lost():
    content = bytearray(made_bmp(np.zeros((HEIGHT, WIDTH), np.uint8), 8, palette=bytes(range(256)) * 4, size=124))
    content[30:34] = struct.pack("<I", 1)
    runs = bytes([WIDTH, 1, 0, 0]) * HEIGHT + b"\0\1"
    assert decode(bytes(content[: 138 + 1024]) + runs)[1][0].lost == ("the colour space of the run-length encoded BMP",)


def test_bmp_of_16_bits_keeps_the_bit_that_is_no_colour():
    """Some programs store alpha in it."""
    rows = RANDOM.integers(0, 2**16, (HEIGHT, WIDTH)).astype("<u2").view(np.uint8)
    content = made_bmp(rows, 16)
    kind, pages = decode(content)
    assert encode(kind, pages) == content


# WebP.


def webp(pixels, **options):
    """Return the content of a WebP file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "WEBP", exact=True, **options)
    return file.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("lossless", [True, False])
def test_webp(lossless, mode, tmp_path):
    """Also the colours of transparent pixels."""
    alpha = np.where(np.arange(SMOOTH.shape[1]) < 5, 0, 200).astype(np.uint8)
    pixels = SMOOTH if mode == "RGB" else np.dstack([SMOOTH, np.broadcast_to(alpha, SMOOTH.shape[:2])])
    content = webp(pixels, lossless=lossless, quality=90)
    kind, (page_,) = decode(content)
    truth = np.asarray(Image.open(io.BytesIO(content)))
    assert (kind, page_.mode, page_.lost) == ("WebP", mode, ())
    assert np.array_equal(page_.pixels, truth)
    if lossless:
        assert np.array_equal(truth, pixels)
    darker = page_._replace(pixels=np.dstack([truth[..., :3] // 2, truth[..., 3:]]))
    output = encode(kind, [darker])
    (again,) = decode(output)[1]
    error = np.abs(again.pixels.astype(int) - darker.pixels)
    assert error.mean() < 2
    assert error[..., 3:].max(initial=0) == 0
    assert (error.max() == 0) == (b"VP8L" in output) == lossless
    (tmp_path / "a.webp").write_bytes(content)
    assert np.array_equal(read_image(tmp_path / "a.webp", 3), truth[..., :3])


@pytest.mark.parametrize("lossless", [True, False])
def test_webp_metadata_stays_and_the_rest_is_named(lossless, tmp_path):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a camera"
    metadata = {"exif": exif.tobytes(), "xmp": b"<x:xmpmeta/>", "icc_profile": b"a profile of 20 bytes"[:20]}
    content = webp(SMOOTH, lossless=lossless, **metadata)
    kind, (page_,) = decode(content)
    with Image.open(io.BytesIO(encode(kind, [page_]))) as after:
        assert after.getexif()[0x010F] == "a camera"
        assert after.info["xmp"] == metadata["xmp"]
        assert after.info["icc_profile"] == metadata["icc_profile"]
    (tmp_path / "a.webp").write_bytes(content)
    assert np.array_equal(read_image(tmp_path / "a.webp", 3), np.rot90(page_.pixels, -1))

    more = content + b"MINE" + struct.pack("<I", 4) + b"data"
    more = more[:4] + struct.pack("<I", len(more) - 8) + more[8:]
    assert decode(more)[1][0].lost == ("the chunk MINE",)
    assert decode(content + b"a video")[1][0].lost == ("7 bytes after the picture",)


def riff(*chunks):
    """Return a WebP file by hand, of chunks `(name, data)`."""
    body = b"WEBP" + b"".join(n + struct.pack("<I", len(d)) + d + b"\0" * (len(d) % 2) for n, d in chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def test_webp_metadata_that_its_header_does_not_announce_is_ignored(tmp_path):
    """As viewers ignore it: with the orientation, the output would be turned."""
    exif = Image.Exif()
    exif[0x0112] = 6
    content = riff((b"VP8L", webp(SMOOTH, lossless=True)[20:]), (b"EXIF", exif.tobytes()[6:]))
    kind, (page_,) = decode(content)
    assert page_.lost == ("the chunk EXIF",)
    with Image.open(io.BytesIO(encode(kind, [page_]))) as after:
        assert 0x0112 not in after.getexif()
    (tmp_path / "a.webp").write_bytes(content)
    assert np.array_equal(read_image(tmp_path / "a.webp", 3), SMOOTH)


def test_webp_that_is_animated_or_cut_is_refused(tmp_path):
    first, file = Image.fromarray(SMOOTH), io.BytesIO()
    first.save(file, "WEBP", save_all=True, append_images=[Image.fromarray(255 - SMOOTH)])
    refused(file.getvalue(), tmp_path, "expected still images, got an animation of 2")
    height, width = SMOOTH.shape[:2]
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    picture = webp(SMOOTH, lossless=True)[12:]
    frame = bytes(6) + size + (100).to_bytes(3, "little") + b"\0" + picture
    one = riff((b"VP8X", b"\x02\0\0\0" + size), (b"ANIM", bytes(6)), (b"ANMF", frame))
    assert Image.open(io.BytesIO(one)).size == (width, height)
    refused(one, tmp_path, "expected still images, got an animation of 1")
    content = webp(SMOOTH, lossless=True)
    refused(content[:-2], tmp_path, "the WebP is cut")
    half = len(content) // 2
    refused(content[:4] + struct.pack("<I", half - 8) + content[8:half], tmp_path, "the WebP is damaged")


# Other kinds of files, and the whole way.


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"", "an empty file"), (b"RIFF\0\0\0\0AVI LIST", "a video; convert it to PNG"),
        (b"GIF89a", "a GIF image"),
        (b"\0\0\0\x18ftypheic", "a HEIC image"), (b"\0\0\0\x18ftypavif", "an AVIF image"),
        (b"8BPS\0\1", "a Photoshop file"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 image"), (b"IIU\0\x08\0\0\0", "a camera's raw file"),
        (b"%PDF-1.7", "a PDF document"),
        (b"\0\5\x16\7\0\2\0\0", "AppleDouble"), (b"hello", "something else"),
    ],
)  # fmt: skip
def test_other_kinds_are_named(content, name, tmp_path):
    refused(content, tmp_path, f"expected PNG, JPEG, TIFF, BMP, WebP, .npy or .npz, got .*{name}")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "WebP"])
def test_damaged_files_name_their_kind(kind, tmp_path):
    starts = {"PNG": b"\x89PNG\r\n\x1a\n", "JPEG": b"\xff\xd8\xff\xe0", "TIFF": b"II*\0", "BMP": b"BM"}
    start = (starts | {"WebP": b"RIFF\x20\0\0\0WEBP"})[kind]
    refused(start + b"\1\2\3\4" * 9, tmp_path, kind)


def test_the_job_says_what_is_lost(tmp_path, capsys):
    (tmp_path / "photo.jpg").write_bytes(jpeg(quality=90) + b"a video")
    assert main([str(tmp_path / "photo.jpg"), "--model", "mnist", "--output-dir", str(tmp_path / "out")]) == 0
    assert re.search(r"photo\.jpg: .*7 bytes after the picture", capsys.readouterr().err)


def test_odd_images(tmp_path):
    """The files of ../shared/cases, as their own check judges them."""
    cases = Path(__file__).parent.parent.parent / "shared" / "cases"
    if not (cases / "check_odd_images.py").is_file():
        pytest.skip("there is no ../shared/cases/check_odd_images.py")
    inputs, outputs, log = tmp_path / "in", tmp_path / "out", tmp_path / "log"
    subprocess.run([sys.executable, cases / "make_odd_images.py", inputs], check=True)
    # Unlike "mnist", "mnist-blind" leaves a chessboard recognizable.
    arguments = (inputs, "--model", "mnist-blind", "--output-dir", outputs)
    log.write_text(run_module("keras_dae.denoise", *arguments).stderr)
    check = subprocess.run(
        [sys.executable, cases / "check_odd_images.py", inputs, outputs, log], capture_output=True, text=True
    )
    assert check.returncode == 0, check.stdout
