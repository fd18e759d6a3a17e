"""Classical denoisers to compare with: a 3×3 median, non-local means, total variation and BM3D.

Each is a function `(noisy, **parameters) -> denoised` of float arrays `(n, height, width, channels)`. Noisy values may
leave [0, 1]; the denoised ones are clipped. The
parameters are chosen on validation images, so that a network is compared with each method at its best.
"""

import functools
import importlib.util
import itertools
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from scipy.ndimage import median_filter
from skimage.restoration import denoise_nl_means, denoise_tv_chambolle

from keras_dae.errors import UserError

NL_MEANS = {"patch_size": 5, "patch_distance": 6, "fast_mode": True}
# The parameters to choose from, in units of the root mean square of the noise.
NL_MEANS_H = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0, 1.3)
NL_MEANS_SIGMA = (0.0, 1.0)
BM3D_SIGMA = (0.7, 1.0, 1.4)
TV_WEIGHT = (0.15, 0.2, 0.25, 0.35, 0.5, 0.7, 1.0, 1.4)


def median(noisy: np.ndarray) -> np.ndarray:
    """Return the median of the 3×3 pixels around each pixel. The edge pixels are repeated outside the image.

    Args:
        noisy: float32 `(n, height, width, channels)` in [0, 1]; the result has the same form.
    """
    return median_filter(noisy, size=(1, 3, 3, 1), mode="nearest").clip(0, 1)


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


def bm3d(noisy: np.ndarray, sigma: float) -> np.ndarray:
    """Denoise by BM3D, with its authors' package `bm3d`: pip install 'keras_dae[bm3d]'. Its licence allows
    non-commercial use only.

    Dabov, Foi, Katkovnik and Egiazarian 2007, "Image denoising by sparse 3-D transform-domain collaborative filtering",
    IEEE Trans. Image Process. 16.

    Args:
        noisy: float32 `(n, height, width, 1 or 3)`; the result has the same form.
        sigma: standard deviation of the noise, on the [0, 1] scale.
    """
    import bm3d as package

    def denoise(image: np.ndarray) -> np.ndarray:
        if np.ptp(image, axis=-1).any():
            return package.bm3d_rgb(np.float64(image), sigma)
        # Grey, maybe stored as colours, of which `bm3d_rgb` would make NaN.
        return np.repeat(package.bm3d(np.float64(image[..., 0]), sigma)[..., None], image.shape[-1], axis=-1)

    return _stack(map(denoise, noisy), noisy)


BASELINES: dict[str, Callable[..., np.ndarray]] = {
    "median 3×3": median,
    "non-local means": nl_means,
    "total variation": total_variation,
}


def chosen_baselines(with_bm3d: bool) -> dict[str, Callable[..., np.ndarray]]:
    """Return name -> function of BASELINES, and of BM3D if it is asked for. It is hundreds of times as slow as others.

    Raises:
        UserError: BM3D is asked for, but its package is not installed.
    """
    if with_bm3d and not importlib.util.find_spec("bm3d"):
        raise UserError("BM3D needs its package, for non-commercial use only: pip install 'keras_dae[bm3d]'")
    return BASELINES | ({"BM3D": bm3d} if with_bm3d else {})


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
        bm3d: [{"sigma": sigma * rms} for sigma in BM3D_SIGMA],
    }

    def mean_log_error(parameters):
        error = np.mean((baseline(noisy, **parameters) - clean) ** 2, axis=(1, 2, 3))
        return np.mean(np.log10(np.maximum(error, 1e-10)))

    return min(candidates[baseline], key=mean_log_error)


def _stack(images: Iterable[np.ndarray], like: np.ndarray) -> np.ndarray:
    """Return the images as one float32 array with the shape of `like`, clipped to [0, 1] as those of networks are."""
    return np.stack(list(images)).reshape(like.shape).astype(np.float32).clip(0, 1)
