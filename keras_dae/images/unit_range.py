"""Pixel values to [0, 1] and back: the one place where integers become floats and floats become integers."""

import numpy as np


def to_unit(values: np.ndarray) -> np.ndarray:
    """Return pixels as float32. Integers are scaled so that their type's largest value becomes 1.

    Args:
        values: bool, uint8, uint16 or float pixels of any shape. Floats are not scaled.

    Example:
        >>> to_unit(np.array([0, 51, 255], np.uint8)).tolist()
        [0.0, 0.20000000298023224, 1.0]
    """
    unit = values.astype(np.float32, copy=False)
    return unit if values.dtype.kind == "f" else unit / np.float32(_white(values.dtype))


def from_unit(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return float pixels in [0, 1] as `dtype`: the inverse of `to_unit`. Integers are rounded.

    Example:
        >>> from_unit(np.array([0.0, 0.2, 1.0], np.float32), np.dtype(np.uint16)).tolist()
        [0, 13107, 65535]
    """
    white = _white(dtype)
    return values.astype(dtype, copy=False) if dtype.kind == "f" else np.rint(values * np.float32(white)).astype(dtype)


def compact(values: np.ndarray) -> np.ndarray:
    """Return pixels in the form that takes the least memory, after checking their range.

    Args:
        values: uint8, uint16, bool or float pixels of any shape; floats in [0, 1].

    Returns:
        uint8 in 0 … 255 for uint8 and bool, else float32 in [0, 1].

    Raises:
        ValueError: another type, NaN or infinity, or floats outside [0, 1].

    Example:
        >>> compact(np.array([False, True])).tolist()
        [0, 255]
    """
    if values.dtype == np.uint8:
        return values
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * 255
    if values.dtype != np.uint16 and values.dtype.kind != "f":
        raise ValueError(f"expected uint8, uint16, bool or float values, got {values.dtype}")
    unit = to_unit(values)
    if not np.isfinite(unit).all():
        raise ValueError("expected finite values, got NaN or infinity")
    if unit.size and (unit.min() < 0 or unit.max() > 1):
        raise ValueError(f"expected floats in [0, 1], got {unit.min():g} … {unit.max():g}")
    return unit


def _white(dtype: np.dtype) -> int:
    return np.iinfo(dtype).max if dtype.kind == "u" else 1
