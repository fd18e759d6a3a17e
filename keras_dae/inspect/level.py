"""The noise level of one image: Immerkær's operator in the flattest tenth of the image, and a median over it."""

import numpy as np
from scipy.special import ndtr, ndtri

from keras_dae.inspect.blocks import MAX_SATURATED, Blocks

FLAT_FRACTION = 0.1
MIN_FLAT = 20  # blocks, if there are as many
# Median of a block's mean square of the operator, for white noise of variance 1. By simulation; a test repeats it.
MEDIAN_OF_WHITE = 0.985


def noise_level(blocks: Blocks) -> float:
    """Return the standard deviation σ of white noise, in the units of the pixels; NaN if all blocks are saturated.

    In each block, the mean square of Immerkær's operator is the variance of white noise plus what fine detail adds. The
    result is the median over the tenth of the blocks with the least structure, see `Blocks.structure`. Immerkær's
    median over *all* pixels reads 16.0 for a true σ of 15 on photographs, because of the detail.

    - Fine texture in all of the image still adds to σ: images without noise read 0.5 to 2 of 255.
    - For noise that is correlated from pixel to pixel, as JPEG and demosaicing leave it, σ is too low, 4 to 6 times for
      the photographs of a phone.
    - Blocks with saturated pixels are left out. Where nearly all have some, what black or white has cut off is added,
      see `remaining_variance`.
    """
    chosen = flat_blocks(blocks)
    if not len(chosen):
        return float("nan")
    variances = blocks.operator_variance[chosen] / remaining_variance(blocks.saturated[chosen])
    return float(np.sqrt(np.median(variances) / MEDIAN_OF_WHITE))


def remaining_variance(saturated: np.ndarray) -> np.ndarray:
    """Return which fraction of the variance of Gaussian noise remains if it is cut off at one side.

    Args:
        saturated: fraction of the values that are cut off. Up to 0.02, the result is 1, as single values may well be
            at the ends of the range without a cut.

    Example:
        >>> remaining_variance(np.array([0.0, 0.5])).round(3).tolist()  # the second is 1/2 − 1/(2π)
        [1.0, 0.341]
    """
    limit = -ndtri(np.maximum(saturated, MAX_SATURATED))
    density = np.exp(-(limit**2) / 2) / np.sqrt(2 * np.pi)
    cut = ndtr(-limit)
    mean = limit * cut - density
    square = 1 - cut - limit * density + limit**2 * cut
    return np.where(saturated <= MAX_SATURATED, 1.0, square - mean**2)


def flat_blocks(blocks: Blocks, fraction: float = FLAT_FRACTION) -> np.ndarray:
    """Return the indices of the usable blocks with the least structure."""
    usable = blocks.usable()
    count = min(len(usable), max(MIN_FLAT, round(fraction * len(usable))))
    return usable[np.argsort(blocks.structure[usable], kind="stable")[:count]]
