"""Run a function over many images, one batch at a time."""

from collections.abc import Callable
from typing import Any

import numpy as np


def run_in_batches(function: Callable[..., Any], *arrays: np.ndarray, size: int = 250) -> np.ndarray:
    """Return `function(*arrays)`, computed on at most `size` rows at a time to limit memory use.

    Args:
        function: takes arrays `(rows, …)` and returns an array or a tensor `(rows, …)`; each row of the result
            depends only on the same row of the arrays.
        arrays: arrays of the same length, at least 1.
        size: rows per batch.

    Example:
        >>> run_in_batches(lambda rows: 2 * rows, np.arange(5), size=2).tolist()
        [0, 2, 4, 6, 8]
    """
    starts = range(0, len(arrays[0]), size)
    results = [np.asarray(function(*(array[start : start + size] for array in arrays))) for start in starts]
    return results[0] if len(results) == 1 else np.concatenate(results)
