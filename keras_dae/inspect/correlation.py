"""Whether the noise of neighbouring pixels is independent: the autocorrelation of the flattest blocks of an image."""

from typing import NamedTuple

import numpy as np

from keras_dae.inspect.blocks import BLOCK, Blocks

FLATTEST_FRACTION = 0.02
MIN_FLATTEST = 8  # blocks, if there are as many
MAX_LAG = 4  # pixels
LESS_FLAT = (0.15, 0.25)  # these blocks, in order of their variance, are compared with the flattest
MAX_COMPARED = 256  # blocks


class Autocorrelation(NamedTuple):
    """The autocorrelation of an image's flattest blocks.

    Attributes:
        map: float `(9, 9)`, from −1 to 1; `map[4 + dy, 4 + dx]` belongs to pixels that are dy rows and dx columns
            apart, and `map[4, 4]` is 1.
        deviation: standard deviation in these blocks, in the units of the pixels.
        growth: by how much the autocorrelation at one pixel is higher in less flat blocks. Noise has the same
            everywhere. Detail has a higher one the more there is of it; it is what is measured if there is no noise.
        flattest: float32 `(at most 4, 16, 16)`, some of the blocks, minus their planes.
    """

    map: np.ndarray
    deviation: float
    growth: float
    flattest: np.ndarray

    def lag(self, distance: int) -> tuple[float, float]:
        """Return the autocorrelation at a distance of so many pixels, (in x, in y)."""
        return lag_of(self.map, distance)


def autocorrelation(blocks: Blocks) -> Autocorrelation | None:
    """Return the autocorrelation of the noise, measured where an image is flattest; None if it has no such place.

    Of the blocks that are neither saturated nor of one value, the 2 % with the least variance are taken. A plane is
    taken off each. Products are averaged over all of these blocks before they are divided by the variance.

    White noise gives 0 at all distances, and photographs with white noise of σ = 5 of 255 at most 0.2. Phone and camera
    JPEGs give 0.6 at a distance of one pixel.
    """
    usable = blocks.usable()
    usable = usable[blocks.variance[usable] > 1e-12 + 1e-8 * np.square(blocks.mean[usable])]
    if not len(usable):
        return None
    count = min(len(usable), max(MIN_FLATTEST, round(FLATTEST_FRACTION * len(usable))))
    ordered = usable[np.argsort(blocks.variance[usable], kind="stable")]
    residuals = without_planes(blocks.pixels[ordered[:count]].astype(np.float64))
    low, high = (round(fraction * len(ordered)) for fraction in LESS_FLAT)
    others = ordered[max(low, count) : high]
    others = others[:: max(1, len(others) // MAX_COMPARED)]
    growth = 0.0
    if len(others) >= MIN_FLATTEST:
        growth = _typical_lag1(without_planes(blocks.pixels[others])) - _typical_lag1(residuals)
    deviation = float(np.sqrt(np.mean(residuals**2) * BLOCK**2 / (BLOCK**2 - 3)))
    flattest = residuals[:: max(1, len(residuals) // 4)][:4].astype(np.float32)
    return Autocorrelation(correlation_map(residuals), deviation, growth, flattest)


def lag_of(correlations: np.ndarray, distance: int) -> tuple[float, float]:
    """Return the autocorrelation at a distance of so many pixels, (in x, in y), from an `Autocorrelation.map`."""
    return float(correlations[MAX_LAG, MAX_LAG + distance]), float(correlations[MAX_LAG + distance, MAX_LAG])


def without_planes(blocks: np.ndarray) -> np.ndarray:
    """Return blocks `(blocks, side, side)` minus the plane that fits each best."""
    side = blocks.shape[-1]
    places = np.arange(side) - (side - 1) / 2
    squares = side * (places**2).sum()
    rest = blocks - blocks.mean((1, 2), keepdims=True)
    down = (rest.sum(2) @ places / squares)[:, None, None] * places[:, None]
    across = (rest.sum(1) @ places / squares)[:, None, None] * places
    return rest - down - across


def _typical_lag1(residuals: np.ndarray) -> float:
    """Return the median over blocks of the autocorrelation at one pixel, the mean of x and y."""
    across = np.mean(residuals[..., 1:] * residuals[..., :-1], axis=(1, 2))
    down = np.mean(residuals[:, 1:] * residuals[:, :-1], axis=(1, 2))
    return float(np.median((across + down) / 2 / np.maximum(np.mean(residuals**2, axis=(1, 2)), 1e-30)))


def correlation_map(residuals: np.ndarray) -> np.ndarray:
    """Return the autocorrelation `(9, 9)` of blocks `(blocks, height, width)` with mean 0, see `Autocorrelation`."""
    result = np.zeros((2 * MAX_LAG + 1, 2 * MAX_LAG + 1))
    height, width = residuals.shape[-2:]
    variance = max(float(np.mean(residuals**2)), 1e-30)
    for down in range(MAX_LAG + 1):
        for across in range(-MAX_LAG, MAX_LAG + 1):
            first = residuals[..., : height - down, max(0, -across) : width - max(0, across)]
            second = residuals[..., down:, max(0, across) : width - max(0, -across)]
            value = np.mean(first * second) / variance
            result[MAX_LAG + down, MAX_LAG + across] = result[MAX_LAG - down, MAX_LAG - across] = value
    return result
