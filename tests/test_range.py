"""The range of pixel values: which integer is white, and what floats may be."""

import numpy as np
import pytest

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
