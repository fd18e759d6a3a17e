"""Pixel values to [0, 1] and back: the one place where integers become floats and floats become integers.

The white of an image is the integer that becomes 1. It is the largest value of the type, such as 65535, unless the
image uses only a part of that range: a camera of 12 bits writes 0 … 4095 into uint16.
"""

import numpy as np

ROUNDING = 1e-6  # how far floats may leave [0, 1]: a sum or a mean of floats in [0, 1] may
MIN_WHITE_BITS, MAX_WHITE_BITS = 8, 15  # of the values of a uint16 image that uses only a part of its range


def type_white(dtype: np.dtype | type) -> int:
    """Return the largest value of an integer type, and 1 for bool and floats.

    Example:
        >>> type_white(np.uint16), type_white(np.float32)
        (65535, 1)
    """
    return int(np.iinfo(dtype).max) if np.dtype(dtype).kind in "iu" else 1


def range_white(maximum: int, dtype: np.dtype | type, declared: int | None = None) -> int:
    """Return the white of an image, measured by its largest value.

    It is the largest value of the type. Only for uint16 whose upper half is not used, it is what the file declares, or
    else the smallest of 255, 511, 1023 … 32767 that is not exceeded. An image that is black stays as it is.

    Args:
        maximum: the largest value of the image, without alpha. For a file of several images, the largest of all.
        dtype: type of the pixels.
        declared: the white that the file declares, if it does. It is not believed if `maximum` exceeds it.

    Example:
        >>> range_white(3900, np.uint16), range_white(40000, np.uint16), range_white(3900, np.uint16, declared=16383)
        (4095, 65535, 16383)
    """
    white = type_white(dtype)
    if np.dtype(dtype).newbyteorder("=") != np.uint16 or not 0 < maximum < 2**MAX_WHITE_BITS:
        return white
    if declared is not None and maximum <= declared <= white:
        return declared
    return 2 ** max(MIN_WHITE_BITS, int(maximum).bit_length()) - 1


def check_white(values: np.ndarray, white: int) -> None:
    """Check that `white` can be the white of an image.

    Args:
        values: pixels of any shape, without alpha.
        white: the integer that stands for 1.

    Raises:
        ValueError: `values` are floats, or `white` exceeds the range of their type, or they exceed `white`.

    Example:
        >>> check_white(np.array([0, 5000], np.uint16), 4095)
        Traceback (most recent call last):
        ValueError: expected values of at most 4095, the given white, got 5000
    """
    if values.dtype.kind == "f":
        raise ValueError(f"expected integers with a white of {white}, got {values.dtype}, for which white is 1")
    if not 1 <= white <= type_white(values.dtype):
        raise ValueError(
            f"expected a white from 1 to {type_white(values.dtype)}, the largest value of {values.dtype}, got {white}"
        )
    if values.size and values.max() > white:
        raise ValueError(f"expected values of at most {white}, the given white, got {values.max()}")


def to_unit(values: np.ndarray, white: int | None = None) -> np.ndarray:
    """Return pixels as float32. Integers are divided by white. Nothing is checked.

    Args:
        values: bool, uint8, uint16 or float pixels of any shape. Floats are not scaled.
        white: the integer that becomes 1; None for the largest value of the type.

    Example:
        >>> to_unit(np.array([0, 51, 255], np.uint8)).tolist()
        [0.0, 0.20000000298023224, 1.0]
        >>> to_unit(np.array([4095], np.uint16), white=4095).tolist()
        [1.0]
    """
    unit = values.astype(np.float32, copy=False)
    return unit if values.dtype.kind == "f" else unit / np.float32(white or type_white(values.dtype))


def from_unit(values: np.ndarray, dtype: np.dtype, white: int | None = None) -> np.ndarray:
    """Return float pixels in [0, 1] as `dtype`: the inverse of `to_unit`. Integers are rounded.

    Example:
        >>> from_unit(np.array([0.0, 0.2, 1.0], np.float32), np.dtype(np.uint16)).tolist()
        [0, 13107, 65535]
        >>> from_unit(np.array([0.0, 0.2, 1.0], np.float32), np.dtype(np.uint16), white=4095).tolist()
        [0, 819, 4095]
    """
    if dtype.kind == "f":
        return values.astype(dtype, copy=False)
    return np.rint(values * np.float32(white or type_white(dtype))).astype(dtype)


def compact(values: np.ndarray, white: int | None = None) -> np.ndarray:
    """Return pixels in the form that takes the least memory, after checking their range.

    Args:
        values: uint8, uint16, bool or float pixels of any shape and byte order; floats in [0, 1].
        white: the integer that stands for 1; None for the largest value of the type.

    Returns:
        uint8 in 0 … 255 for uint8 and bool, else float32 in [0, 1]. With another white than 255, uint8 becomes float32.

    Raises:
        ValueError: another type, NaN or infinity, floats outside [0, 1], or values above `white`, see `check_white`.

    Example:
        >>> compact(np.array([False, True])).tolist()
        [0, 255]
    """
    check_type(values.dtype)
    if white is not None:
        check_white(values, white)
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * 255
    if values.dtype == np.uint8 and white in (None, 255):
        return values
    if values.dtype.kind == "f":
        return without_rounding(values).astype(np.float32, copy=False)
    return to_unit(values, white)


def check_type(dtype: np.dtype) -> None:
    """Raise `ValueError` unless pixels may have this type: bool, uint8, uint16 or a float, in any byte order."""
    native = dtype.newbyteorder("=")
    if native.kind == "f" or native in (np.bool_, np.uint8, np.uint16):
        return
    advice = ""
    if dtype.kind in "iu":
        advice = "; convert them with .astype(numpy.uint16) if they are in 0 … 65535, or scale them to floats in [0, 1]"
    raise ValueError(f"expected bool, uint8, uint16 or float values, got {native}{advice}")


def without_rounding(values: np.ndarray) -> np.ndarray:
    """Return floats clipped to [0, 1], if they exceed it by no more than rounding explains.

    Args:
        values: float pixels of any shape and type.

    Raises:
        ValueError: NaN or infinity, or values outside [0, 1] by more than 1e-6.

    Example:
        >>> without_rounding(np.array([0.0, 1 + 1e-9])).tolist()
        [0.0, 1.0]
    """
    low, high = (values.min(), values.max()) if values.size else (0.0, 0.0)
    if low >= 0 and high <= 1:
        return values
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError("expected finite values, got NaN or infinity")
    if low < -ROUNDING or high > 1 + ROUNDING:
        raise ValueError(
            f"expected floats in [0, 1], got {low:.9g} … {high:.9g}; scale them: for values in 0 … 255, divide by 255"
        )
    return values.clip(0, 1)
