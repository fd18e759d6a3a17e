"""How far two shots of one scene are shifted against each other: phase correlation, then gradients."""

import numpy as np
from scipy import ndimage

MAX_SIDE = 512  # pixels of the middle of the images that are compared
MIN_PEAK = 8.0  # in standard deviations of the correlation: of 512² random values, the largest is about 5
SMOOTHING = 2.0  # pixels; the deviation of the Gaussian that is laid over the images before their gradients are taken


def shift_between(first: np.ndarray, second: np.ndarray) -> tuple[float, float] | None:
    """Return by how many pixels (down, right) the second image lies; None if that cannot be seen.

    It cannot be seen if there is only noise, or nothing that the images have in common. Whole pixels are found by phase
    correlation (C. D. Kuglin and D. C. Hines, "The phase correlation image alignment method", 1975), and parts of a
    pixel by least squares with the gradients (B. D. Lucas and T. Kanade, "An iterative image registration technique",
    1981).

    Args:
        first, second: float32 `(height, width)`, equal shapes.

    Example:
        >>> scene = np.random.default_rng(0).standard_normal((64, 64)).cumsum(0).cumsum(1)
        >>> down, right = shift_between(scene[4:-4, 4:-4], scene[1:-7, 6:-2])
        >>> round(down), round(right)
        (3, -2)
    """
    height, width = (min(side, MAX_SIDE) for side in first.shape)
    top, left = ((whole - side) // 2 for whole, side in zip(first.shape, (height, width)))
    middle = slice(top, top + height), slice(left, left + width)
    first, second = (image[middle] - image[middle].mean() for image in (first, second))
    contrast = max(first.std(), second.std())
    if not min(first.std(), second.std()) > 1e-6 * max(contrast, 1e-30):
        return None  # an image of one value
    first, second = first / contrast, second / contrast
    whole = _whole_pixels(first, second)
    if whole is None or abs(whole[0]) > height // 2 - 8 or abs(whole[1]) > width // 2 - 8:
        return whole
    down, right = whole
    part = _part_of_pixel(
        first[max(0, -down) : height - max(0, down), max(0, -right) : width - max(0, right)],
        second[max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)],
    )
    return down + part[0], right + part[1]


def _whole_pixels(first: np.ndarray, second: np.ndarray) -> tuple[int, int] | None:
    height, width = first.shape
    window = np.outer(np.hanning(height), np.hanning(width)).astype(np.float32)
    spectra = [np.fft.rfft2(image * window) for image in (first, second)]
    cross = spectra[1] * np.conj(spectra[0])
    magnitude = np.abs(cross)
    cross /= np.maximum(magnitude, 1e-12 * max(float(magnitude.max()), 1e-12))
    surface = np.fft.irfft2(cross, (height, width))
    peak = np.unravel_index(np.argmax(surface), surface.shape)
    if surface[peak] < MIN_PEAK * surface.std():
        return None
    down, right = (
        int(place) if place <= side // 2 else int(place) - side for place, side in zip(peak, (height, width))
    )
    return down, right


def _part_of_pixel(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Return the shift of images that are shifted by less than about a pixel; at most 1 in each direction."""
    smooth = [ndimage.gaussian_filter(image, SMOOTHING, truncate=2) for image in (first, second)]
    slopes = [slope.ravel() for slope in np.gradient((smooth[0] + smooth[1]) / 2)]
    difference = (smooth[0] - smooth[1]).ravel()
    difference = difference - difference.mean()
    matrix = np.array([[a @ b for b in slopes] for a in slopes])
    if not np.linalg.det(matrix) > 1e-6 * max(np.trace(matrix), 1e-30) ** 2:
        return 0.0, 0.0
    down, right = np.linalg.solve(matrix, [slope @ difference for slope in slopes]).clip(-1, 1)
    return float(down), float(right)
