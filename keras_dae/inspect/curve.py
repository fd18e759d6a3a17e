"""The noise curve: how the variance of the noise grows with the brightness, from blocks or from pairs of shots.

Sensors have var = gain · level + read_noise² (Foi et al. 2008, "Practical Poissonian-Gaussian noise modeling and
fitting for single-image raw-data").
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from keras_dae.inspect.level import MEDIAN_OF_WHITE

BINS = 16  # fewer if there are few blocks
MIN_BIN_BLOCKS = 24
FLAT_FRACTION = 0.25  # of the blocks of a bin
MIN_BIN_PIXELS = 200
MIN_BINS = 5
MAX_BIN_SATURATED = 0.005  # fraction of a bin's pixels
PAIR_BINS = 64
ROBUST_STEPS = 20
OUTLIER = 2.0  # relative to the typical error
MIN_SIGNIFICANCE = 3.0  # of the gain, in its standard errors


class NoiseCurve(NamedTuple):
    """Variances at several levels, and the line var = intercept + gain · level through them.

    Attributes:
        level: brightness, float `(bins,)`.
        variance: of the noise there, float `(bins,)`.
        gain: slope of the line, not negative; variance per level.
        intercept: of the line. It is negative if black is not 0.
    """

    level: np.ndarray
    variance: np.ndarray
    gain: float
    intercept: float

    @property
    def read_noise(self) -> float:
        """Standard deviation of the noise at level 0; 0 for a negative intercept."""
        return max(self.intercept, 0.0) ** 0.5


@dataclass(frozen=True)
class BlockSample:
    """What of `Blocks` the curve needs, float `(blocks,)` each; saturated blocks are left out."""

    mean: np.ndarray
    operator_variance: np.ndarray
    structure: np.ndarray

    def scaled(self, factor: float) -> "BlockSample":
        """Return the same in other units: pixel values times `factor`."""
        return BlockSample(self.mean * factor, self.operator_variance * factor**2, self.structure * factor**2)


class DifferenceBins(NamedTuple):
    """The differences of two shots, in bins of their mean, float `(bins,)` each.

    Attributes:
        level: mean of the pixels.
        variance: of the noise of one shot, which is half of the mean squared difference.
        pixels: how many.
    """

    level: np.ndarray
    variance: np.ndarray
    pixels: np.ndarray

    def scaled(self, factor: float) -> "DifferenceBins":
        """Return the same in other units: pixel values times `factor`."""
        return DifferenceBins(self.level * factor, self.variance * factor**2, self.pixels)


def curve_of_blocks(sample: BlockSample) -> NoiseCurve | None:
    """Return the noise curve of the blocks of one image or of many; None if their brightness varies too little.

    The blocks are sorted into up to 16 bins by their mean. In each bin, the quarter with the least structure is taken,
    and the median of its variances.
    """
    if not len(sample.mean):
        return None
    low, high = np.quantile(sample.mean, (0.005, 0.995))
    bins = min(BINS, max(MIN_BINS, len(sample.mean) // (2 * MIN_BIN_BLOCKS)))
    index = np.floor((sample.mean - low) / max(high - low, 1e-12) * bins).astype(int)
    levels, variances = [], []
    for number in range(bins):
        members = np.flatnonzero(index == number)
        if len(members) < MIN_BIN_BLOCKS:
            continue
        chosen = members[np.argsort(sample.structure[members], kind="stable")[: round(FLAT_FRACTION * len(members))]]
        levels.append(float(np.mean(sample.mean[chosen])))
        variances.append(float(np.median(sample.operator_variance[chosen])) / MEDIAN_OF_WHITE)
    return _curve(levels, variances)


def curve_of_differences(bins: DifferenceBins) -> NoiseCurve | None:
    """Return the noise curve of pairs of shots; None if their brightness varies too little."""
    if not len(bins.level):
        return None
    low, high = bins.level.min(), bins.level.max()
    index = np.minimum(((bins.level - low) / max(high - low, 1e-12) * BINS).astype(int), BINS - 1)
    levels, variances = [], []
    for number in range(BINS):
        members = index == number
        if (weights := bins.pixels[members]).sum() >= MIN_BIN_PIXELS:
            levels.append(float(np.average(bins.level[members], weights=weights)))
            variances.append(float(np.average(bins.variance[members], weights=weights)))
    return _curve(levels, variances)


def difference_bins(first: np.ndarray, second: np.ndarray) -> DifferenceBins:
    """Return the differences of two shots of one scene in bins of their mean.

    The variance of one shot is ½ · mean((first − second)²) (photon transfer). The mean of all differences is taken off
    before, so that a flickering lamp does not count as noise. Bins with saturated pixels are left out.

    Args:
        first, second: float32 `(height, width, channels)`, equal shapes.
    """
    level = ((first + second) / 2).ravel()
    difference = (first - second).ravel()
    difference -= difference.mean()
    ends = [(one <= one.min()) | (one >= one.max()) for one in (first, second)]
    saturated = (ends[0] | ends[1]).ravel()
    low, high = level.min(), level.max()
    index = np.minimum(((level - low) * (PAIR_BINS / max(high - low, 1e-12))).astype(np.intp), PAIR_BINS - 1)

    def sums(values: np.ndarray | None) -> np.ndarray:
        return np.bincount(index, values, PAIR_BINS)

    pixels = sums(None)
    usable = (pixels > 0) & (sums(saturated) <= MAX_BIN_SATURATED * pixels)
    counts = pixels[usable]
    return DifferenceBins(
        sums(level)[usable] / counts, sums(difference * difference)[usable] / counts / 2, counts.astype(float)
    )


def _curve(levels: list[float], variances: list[float]) -> NoiseCurve | None:
    if len(levels) < MIN_BINS:
        return None
    level, variance = np.array(levels), np.array(variances)
    return NoiseCurve(level, variance, *fit_line(level, variance))


def fit_line(level: np.ndarray, variance: np.ndarray) -> tuple[float, float]:
    """Return `(gain, intercept)` of a robust line through variances, whose errors are proportional to them.

    Weighted least squares; points far off the line lose weight step by step (Cauchy). A falling line, or one that rises
    by no more than the errors explain, is replaced by a level one.

    Example:
        >>> level = np.array([10.0, 20, 30, 40])
        >>> gain, intercept = fit_line(level, 0.5 * level + 4)
        >>> round(gain, 6), round(intercept, 6)
        (0.5, 4.0)
    """
    floor = max(float(np.median(variance)) * 1e-3, 1e-12)
    weights = 1 / np.maximum(variance, floor) ** 2
    for _ in range(ROBUST_STEPS):
        centre, mean = np.average(level, weights=weights), np.average(variance, weights=weights)
        squares = np.sum(weights * (level - centre) ** 2)
        gain = float(np.sum(weights * (level - centre) * (variance - mean)) / max(squares, 1e-30))
        expected = np.maximum(mean + gain * (level - centre), floor)
        errors = np.abs(variance - expected) / expected
        typical = max(float(np.median(errors)) / 0.6745, 1e-6)
        robust = 1 / (1 + (errors / (OUTLIER * typical)) ** 2)
        weights = robust / expected**2
    # The weights are the inverse squares of the expected variances, so that the errors relative to them have the
    # deviation `typical`, and the gain the standard error typical / √squares.
    if squares <= 0 or gain < MIN_SIGNIFICANCE * typical * (len(level) / (len(level) - 2)) ** 0.5 / squares**0.5:
        return 0.0, float(np.average(variance, weights=robust))
    return gain, float(mean - gain * centre)
