"""Values of any number of bits, packed into bytes: the first value stands in the highest bits."""

import numpy as np


def unpack_bits(rows: np.ndarray, bits: int, count: int) -> np.ndarray:
    """Return the first `count` values of each row.

    Args:
        rows: uint8 `(rows, bytes)`.
        bits: of a value, 1 to 32.
        count: of values in a row.

    Returns:
        `(rows, count)`, of the smallest unsigned type that holds `bits`.

    Example:
        >>> unpack_bits(np.array([[0b0110_0000]], np.uint8), bits=2, count=3).tolist()
        [[1, 2, 0]]
    """
    dtype = smallest_dtype(bits)
    if bits == 8:
        return rows[:, :count]
    planes = np.unpackbits(rows, axis=1, count=count * bits).reshape(len(rows), count, bits)
    values = np.zeros((len(rows), count), dtype)
    for bit in range(bits):
        values = values << dtype.type(1) | planes[..., bit]
    return values


def pack_bits(values: np.ndarray, bits: int) -> np.ndarray:
    """Return values `(rows, count)` of `bits` bits as bytes: the inverse of `unpack_bits`. A row fills whole bytes.

    Example:
        >>> pack_bits(np.array([[1, 2, 0]], np.uint8), bits=2).tolist()
        [[96]]
    """
    if bits == 8:
        return values.astype(np.uint8)
    planes = np.stack([(values >> (bits - 1 - bit)).astype(np.uint8) & 1 for bit in range(bits)], axis=-1)
    return np.packbits(planes.reshape(len(values), -1), axis=1)


def smallest_dtype(bits: int) -> np.dtype:
    """Return the smallest unsigned type that holds `bits` bits."""
    return np.dtype(f"u{next(size for size in (1, 2, 4, 8) if size * 8 >= bits)}")
