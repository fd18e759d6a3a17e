"""Run a function over many images, a batch at a time."""

from collections.abc import Callable

import numpy as np


def run_in_batches(function: Callable, *arrays: np.ndarray, size: int = 250) -> np.ndarray:
    """Return `function(*arrays)`, computed on at most `size` rows at a time so that memory stays bounded.

    Args:
        function: from arrays `(n, …)` to an array `(n, …)`, row by row.
        arrays: all of one length, at least 1.
        size: rows in a batch.

    Example:
        >>> run_in_batches(lambda rows: 2 * rows, np.arange(5), size=2).tolist()
        [0, 2, 4, 6, 8]
    """
    starts = range(0, len(arrays[0]), size)
    done = [np.asarray(function(*(array[start : start + size] for array in arrays))) for start in starts]
    return done[0] if len(done) == 1 else np.concatenate(done)
