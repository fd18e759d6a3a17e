"""How bright the images of a dataset are: a measure that noise hardly changes."""

import numpy as np

from keras_dae.images.unit_range import to_unit

EXTREME = 0.005  # share of the images, at each end, that does not count


def brightness(images: np.ndarray) -> tuple[float, float]:
    """Return the brightness of the darkest and of the brightest of many images, each the median of its pixels.

    Args:
        images: `(n, height, width, channels)`, uint8 in 0 … 255 or float in [0, 1]. The extreme 0.5 % at each end are
            left out.

    Example:
        >>> brightness(np.array([0, 0, 51], np.uint8).reshape(1, 3, 1, 1))
        (0.0, 0.0)
    """
    medians = np.median(to_unit(images).reshape(len(images), -1), axis=1)
    low, high = np.quantile(medians, (EXTREME, 1 - EXTREME))
    return float(low), float(high)
