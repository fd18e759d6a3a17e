"""The worst, median and best images of an evaluation."""

from dataclasses import dataclass

import numpy as np

from keras_dae.runs.noise_setting import NoiseSetting


@dataclass(frozen=True)
class RankedImages:
    """The worst, median and best test images of a model at one noise level, for a picture.

    Attributes:
        label: name of the model.
        noise: noise of the noisy images.
        trained_for_this: whether the model was trained for this noise; None if that is unknown.
        clean, noisy, denoised: float32 `(n, height, width, channels)` in [0, 1], see `worst_median_best`; noisy ones
            may leave [0, 1] if they are not clipped.
    """

    label: str
    noise: NoiseSetting
    trained_for_this: bool | None
    clean: np.ndarray
    noisy: np.ndarray
    denoised: np.ndarray


def worst_median_best(psnr: np.ndarray, count: int) -> np.ndarray:
    """Return the indices of the `count` worst, the `count` median and the `count` best images: int `(3 · count,)`.

    With fewer than `3 · count` images, there are fewer of each; with one or two images, some appear more than once.

    Args:
        psnr: float `(n,)`, at least one.
        count: at least 1.

    Example:
        >>> worst_median_best(np.array([5.0, 1.0, 9.0, 3.0]), 1).tolist()
        [1, 3, 2]
    """
    order = np.argsort(psnr, kind="stable")
    count = min(count, len(order) // 3) or 1
    middle = (len(order) - count) // 2
    return np.concatenate([order[:count], order[middle : middle + count], order[len(order) - count :]])
