"""The range of pixel values: which integer is white, and what floats may be."""

import copy
import io
import subprocess
import sys
import warnings

import numpy as np
import pytest
from PIL import Image

from keras_dae.denoise import files
from keras_dae.denoise.__main__ import main
from keras_dae.denoise.denoiser import load_denoiser
from keras_dae.denoise.white import PartOfRangeWarning
from keras_dae.errors import UserError
from keras_dae.images.unit_range import compact, from_unit, range_white, to_unit


@pytest.mark.parametrize(
    ("maximum", "dtype", "declared", "white"),
    [
        (4095, np.uint16, None, 4095),
        (4096, np.uint16, None, 8191),
        (1000, np.uint16, None, 1023),
        (255, np.uint16, None, 255),
        (3, np.uint16, None, 255),
        (32767, np.uint16, None, 32767),
        (32768, np.uint16, None, 65535),
        (0, np.uint16, None, 65535),
        (4095, ">u2", None, 4095),
        (4095, np.uint16, 16383, 16383),
        (4095, np.uint16, 1023, 4095),
        (4095, np.uint16, 65535, 65535),
        (40000, np.uint16, 50000, 65535),
        (100, np.uint8, None, 255),
        (1, np.bool_, None, 1),
        (1, np.float32, None, 1),
    ],
)
def test_white_of_a_range(maximum, dtype, declared, white):
    assert range_white(maximum, dtype, declared) == white


@pytest.mark.parametrize("white", [255, 1023, 4095, 16383, 65535])
def test_integers_come_back_from_unit(white):
    values = np.arange(white + 1, dtype=np.uint16)
    unit = to_unit(values, white)
    assert (unit.min(), unit.max()) == (0, 1)
    assert np.array_equal(from_unit(unit, values.dtype, white), values)


def test_compact_divides_by_white():
    values = np.array([0, 819, 4095], np.uint16)
    np.testing.assert_allclose(compact(values, 4095), [0, 0.2, 1], atol=1e-7)
    np.testing.assert_allclose(compact(values), values / 65535, atol=1e-7)
    np.testing.assert_allclose(compact(np.array([0, 51], np.uint8), 102), [0, 0.5], atol=1e-7)


@pytest.mark.parametrize(
    ("values", "white", "expected"),
    [
        (np.array([4096], np.uint16), 4095, "at most 4095, the given white, got 4096"),
        (np.array([5], np.uint8), 4095, "a white from 1 to 255, the largest value of uint8, got 4095"),
        (np.array([True]), 4095, "a white from 1 to 1, the largest value of bool"),
        (np.array([0.5]), 4095, "integers with a white of 4095, got float64"),
    ],
)
def test_white_that_does_not_fit(values, white, expected):
    with pytest.raises(ValueError, match=expected):
        compact(values, white)


@pytest.mark.parametrize("values", [np.array([0.25, 1]), np.array([0.25, 1], ">f4"), np.array([0.25, 1 + 1e-9])])
def test_floats_are_taken(values):
    taken = compact(values)
    assert taken.dtype == np.float32
    assert taken.tolist() == [0.25, 1]


def test_rounding_is_clipped_and_no_more():
    assert compact(np.array([-1e-7, 1 + 9e-7])).tolist() == [0, 1]
    with pytest.raises(ValueError, match=r"got 0 … 1\.000002"):
        compact(np.array([0, 1.000002]))


def test_other_byte_order_is_taken():
    assert compact(np.array([0, 4095], ">u2"), 4095).tolist() == [0, 1]


@pytest.mark.parametrize("dtype", [np.int8, np.int16, ">i2", np.uint32, np.int64])
def test_other_integers_are_refused_with_advice(dtype):
    with pytest.raises(ValueError, match=rf"got {np.dtype(dtype).name}; convert them with .astype\(numpy.uint16\)"):
        compact(np.array([1], dtype))


WAVE = (np.sin(np.arange(40)[:, None] / 4) * np.cos(np.arange(32) / 5) / 2 + 0.5) ** 4
WAVE /= WAVE.max()  # 0 … 1, mostly dark, as digits are
TWELVE_BITS = np.uint16(np.rint(WAVE * 4095))


@pytest.fixture(scope="module")
def denoiser():
    return load_denoiser("mnist", threads=1)


def expected(denoiser, values, white):
    """Return what denoising gives, by floats that are scaled here."""
    return np.rint(denoiser.denoise(np.float32(values / white)) * np.float32(white)).astype(np.uint16)


def run(folder, *options):
    """Denoise the files in a folder in this process. Return the exit status; the outputs are in `<folder>/out`."""
    return main([str(folder), "--model", "mnist", "--output-dir", str(folder / "out"), "--processes", "1", *options])


def saved(folder, name, values, **options):
    folder.mkdir(exist_ok=True)
    Image.fromarray(values).save(folder / name, **options)
    return folder


def test_12_bits_are_measured_and_said(tmp_path, denoiser, capsys):
    for name in ("a.png", "b.tif"):
        saved(tmp_path, name, TWELVE_BITS)
    saved(tmp_path, "c.png", TWELVE_BITS // 4)
    saved(tmp_path, "d.png", np.uint16(WAVE * 65535))
    saved(tmp_path, "e.png", np.uint8(WAVE * 255))
    assert run(tmp_path) == 0
    for name, values, white in (
        ("a.png", TWELVE_BITS, 4095),
        ("b.tif", TWELVE_BITS, 4095),
        ("c.png", TWELVE_BITS // 4, 1023),
        ("d.png", np.uint16(WAVE * 65535), 65535),
    ):
        made = np.asarray(Image.open(tmp_path / "out" / name)).astype(np.uint16)
        assert np.array_equal(made, expected(denoiser, values, white)), name
        assert made.max() > 0.5 * white
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "white" in line]
    assert line == (
        "3 files of 16 bits use only a part of their range: white is taken as 4095 for 2, 1023 for 1; --white sets it"
    )


def test_a_given_white_is_used_for_all_files(tmp_path, denoiser, capsys):
    saved(tmp_path, "a.png", TWELVE_BITS)
    saved(tmp_path, "b.png", TWELVE_BITS // 4)
    assert run(tmp_path, "--white", "4095") == 0
    assert "white" not in capsys.readouterr().err.replace(str(tmp_path), "")
    made = np.asarray(Image.open(tmp_path / "out/b.png"))
    assert np.array_equal(made, expected(denoiser, TWELVE_BITS // 4, 4095))


def test_the_types_range_can_be_asked_for(tmp_path, denoiser, capsys):
    saved(tmp_path, "a.png", TWELVE_BITS)
    assert run(tmp_path, "--white", "type") == 0
    assert "white" not in capsys.readouterr().err.replace(str(tmp_path), "")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out/a.png")), expected(denoiser, TWELVE_BITS, 65535))


def test_what_a_given_white_does_not_fit_is_refused_by_name(tmp_path, capsys):
    saved(tmp_path, "fits.png", TWELVE_BITS)
    saved(tmp_path, "brighter.png", TWELVE_BITS + 1)
    saved(tmp_path, "bytes.png", np.uint8(WAVE * 255))
    saved(tmp_path, "float.tif", np.float32(WAVE))
    assert run(tmp_path, "--white", "4095") == 1
    error = capsys.readouterr().err
    assert "brighter.png: expected values of at most 4095, the given white, got 4096" in error
    assert "bytes.png: expected a white from 1 to 255" in error
    assert "float.tif: expected integers with a white of 4095, got float32" in error
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["fits.png"]


@pytest.mark.parametrize("value", ["0", "-1", "4095.5", "bright"])
def test_white_must_be_a_number_or_a_rule(tmp_path, value, capsys):
    with pytest.raises(SystemExit) as ended:
        run(tmp_path, "--white", value)
    assert ended.value.code == 2
    assert "auto, type or an integer of at least 1" in capsys.readouterr().err


def test_pages_and_arrays_of_a_file_share_one_white(tmp_path, denoiser, capsys):
    dark = TWELVE_BITS // 16
    pages = [Image.fromarray(values) for values in (dark, TWELVE_BITS)]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    np.savez(tmp_path / "arrays.npz", dark=dark, bright=TWELVE_BITS, bytes=np.uint8(WAVE * 255))
    assert run(tmp_path) == 0
    assert "2 files of 16 bits use only a part of their range: white is taken as 4095;" in capsys.readouterr().err
    with Image.open(tmp_path / "out/pages.tif") as image:
        for number, values in enumerate((dark, TWELVE_BITS)):
            image.seek(number)
            assert np.array_equal(np.asarray(image), expected(denoiser, values, 4095))
    arrays = np.load(tmp_path / "out/arrays.npz")
    assert np.array_equal(arrays["dark"], expected(denoiser, dark, 4095))
    assert np.array_equal(arrays["bytes"], denoiser.denoise(np.uint8(WAVE * 255)))


def test_what_a_tiff_declares_is_believed(tmp_path, denoiser, capsys):
    saved(tmp_path, "a.tif", TWELVE_BITS, tiffinfo={281: 16383})  # MaxSampleValue
    assert run(tmp_path) == 0
    assert "white is taken as 16383" in capsys.readouterr().err
    made = np.asarray(Image.open(tmp_path / "out/a.tif"))
    assert np.array_equal(made, expected(denoiser, TWELVE_BITS, 16383))


def test_the_pipe_measures_white(tmp_path, denoiser):
    saved(tmp_path, "a.png", TWELVE_BITS)
    for options, white in (([], 4095), (["--white", "8191"], 8191)):
        command = [sys.executable, "-m", "keras_dae.denoise", "-", "--model", "mnist", *options]
        done = subprocess.run(command, input=(tmp_path / "a.png").read_bytes(), capture_output=True, check=True)
        made = np.asarray(Image.open(io.BytesIO(done.stdout)))
        assert np.array_equal(made, expected(denoiser, TWELVE_BITS, white))
        assert (b"white is taken as 4095" in done.stderr) == (not options)


@pytest.mark.slow
def test_notes_of_several_processes_are_counted_together(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(files, "MAX_CHUNK_FILES", 2)
    for index in range(5):
        saved(tmp_path, f"{index}.png", TWELVE_BITS)
    assert run(tmp_path, "--processes", "2") == 0
    assert "5 files of 16 bits use only a part of their range" in capsys.readouterr().err


def test_arrays_are_measured_with_a_warning(denoiser):
    fresh = copy.copy(denoiser)
    with pytest.warns(PartOfRangeWarning, match="white is taken as 4095; give white=4095, or white='type' for 65535"):
        denoised = fresh(TWELVE_BITS)
    assert np.array_equal(denoised, expected(denoiser, TWELVE_BITS, 4095))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fresh(TWELVE_BITS)  # once is enough
        for white, scale in ((4095, 4095), (8191, 8191), ("type", 65535), (65535, 65535)):
            made = copy.copy(denoiser)(TWELVE_BITS, white=white)
            assert np.array_equal(made, expected(denoiser, TWELVE_BITS, scale))


def test_alpha_has_no_part_in_white(denoiser):
    image = np.dstack([TWELVE_BITS, np.full_like(TWELVE_BITS, 65535)])
    with pytest.warns(PartOfRangeWarning, match="4095"):
        denoised = copy.copy(denoiser)(image)
    assert np.array_equal(denoised[..., 0], expected(denoiser, TWELVE_BITS, 4095))
    assert np.array_equal(denoised[..., 1], image[..., 1])


def test_large_images_and_colour_have_the_same_white(denoiser):
    large = np.tile(TWELVE_BITS, (20, 20))
    assert np.array_equal(denoiser(large, white=4095), expected(denoiser, large, 4095))
    colour = np.dstack([TWELVE_BITS, TWELVE_BITS // 2, TWELVE_BITS // 4])
    assert np.array_equal(denoiser(colour, white=4095), expected(denoiser, colour, 4095))


def test_a_white_that_does_not_fit_an_array_is_refused(denoiser):
    for values, white in ((TWELVE_BITS, 4000), (np.float32(WAVE), 4095), (np.uint8(WAVE * 255), 4095)):
        with pytest.raises(UserError, match="white"):
            denoiser(values, white=white)


def test_other_byte_order_comes_back(denoiser):
    denoised = denoiser(TWELVE_BITS.astype(">u2"), white=4095)
    assert denoised.dtype == np.dtype(">u2")
    assert np.array_equal(denoised, expected(denoiser, TWELVE_BITS, 4095))
    denoised = denoiser(WAVE.astype(">f4"))
    assert denoised.dtype == np.dtype(">f4")
    assert np.array_equal(denoised, denoiser(np.float32(WAVE)))
