"""Classical denoisers to compare with: a 3×3 median, non-local means and total variation.

Each is a function `(noisy, **parameters) -> denoised` of float arrays `(n, height, width, channels)` in [0, 1]. The
parameters are chosen on validation images, so that a network is compared with each method at its best.
"""

import functools
import itertools
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from scipy.ndimage import median_filter
from skimage.restoration import denoise_nl_means, denoise_tv_chambolle

NL_MEANS = {"patch_size": 5, "patch_distance": 6, "fast_mode": True}
# The parameters to choose from, in units of the root mean square of the noise.
NL_MEANS_H = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0, 1.3)
NL_MEANS_SIGMA = (0.0, 1.0)
TV_WEIGHT = (0.15, 0.2, 0.25, 0.35, 0.5, 0.7, 1.0, 1.4)


def median(noisy: np.ndarray) -> np.ndarray:
    """Return the median of the 3×3 pixels around each pixel. The edge pixels are repeated outside the image.

    Args:
        noisy: float32 `(n, height, width, channels)` in [0, 1]; the result has the same form.
    """
    return median_filter(noisy, size=(1, 3, 3, 1), mode="nearest")


def nl_means(noisy: np.ndarray, h: float, sigma: float) -> np.ndarray:
    """Denoise by non-local means, as scikit-image implements them.

    Buades, Coll and Morel 2005, "A non-local algorithm for image denoising", CVPR. Patches are 5×5 pixels; similar ones
    are searched for within 6 pixels.

    Args:
        noisy: float32 `(n, height, width, channels)` in [0, 1]; the result has the same form.
        h: cut-off for the distance between patches, on the [0, 1] scale.
        sigma: standard deviation of the noise, on the [0, 1] scale, that is subtracted from these distances.
    """
    denoise = functools.partial(denoise_nl_means, h=h, sigma=sigma, channel_axis=-1, **NL_MEANS)
    with ThreadPoolExecutor() as pool:
        return _stack(pool.map(denoise, noisy), noisy)


def total_variation(noisy: np.ndarray, weight: float) -> np.ndarray:
    """Denoise by minimizing total variation, as scikit-image implements it.

    Chambolle 2004, "An algorithm for total variation minimization and applications", J. Math. Imaging Vis. 20.

    Args:
        noisy: float32 `(n, height, width, channels)` in [0, 1]; the result has the same form.
        weight: higher values give smoother images.
    """
    # Threads would not help: most of this code holds Python's global lock.
    return _stack((denoise_tv_chambolle(image, weight=weight, channel_axis=-1) for image in noisy), noisy)


BASELINES: dict[str, Callable[..., np.ndarray]] = {
    "median 3×3": median,
    "non-local means": nl_means,
    "total variation": total_variation,
}


def best_parameters(baseline: Callable[..., np.ndarray], noisy: np.ndarray, clean: np.ndarray) -> dict[str, float]:
    """Return the parameters with which a classical method reaches its highest mean PSNR: name -> value.

    Args:
        baseline: a function of BASELINES.
        noisy, clean: float32 `(n, height, width, channels)` in [0, 1], the images to try the parameters on.
    """
    rms = max(float(np.sqrt(np.mean((noisy - clean) ** 2))), 1e-3)  # not 0: scikit-image divides by the parameters
    candidates: dict[Callable[..., np.ndarray], list[dict[str, float]]] = {
        median: [{}],
        nl_means: [{"h": h * rms, "sigma": sigma * rms} for h, sigma in itertools.product(NL_MEANS_H, NL_MEANS_SIGMA)],
        total_variation: [{"weight": weight * rms} for weight in TV_WEIGHT],
    }

    def mean_log_error(parameters):
        error = np.mean((baseline(noisy, **parameters) - clean) ** 2, axis=(1, 2, 3))
        return np.mean(np.log10(np.maximum(error, 1e-10)))

    return min(candidates[baseline], key=mean_log_error)


def _stack(images: Iterable[np.ndarray], like: np.ndarray) -> np.ndarray:
    """Return the images as one float32 array with the shape of `like`."""
    return np.stack(list(images)).reshape(like.shape).astype(np.float32)
