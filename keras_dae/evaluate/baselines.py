"""Classical denoisers to compare with: a 3×3 median, non-local means and total variation.

Each is a function `(noisy, **parameters) -> denoised` on float arrays `(n, height, width, channels)` in [0, 1]. The two
that have parameters get those that are best on validation images, so that a network is compared with their best.
"""

import functools
import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from scipy.ndimage import median_filter
from skimage.restoration import denoise_nl_means, denoise_tv_chambolle

NL_MEANS = {"patch_size": 5, "patch_distance": 6, "fast_mode": True}
H = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0, 1.3)  # as shares of the noise's root mean square
SIGMA = (0.0, 1.0)
WEIGHT = (0.15, 0.2, 0.25, 0.35, 0.5, 0.7, 1.0, 1.4)


def median(noisy):
    """Return the median of the 3×3 pixels around each; outside the image stands its nearest pixel."""
    return median_filter(noisy, size=(1, 3, 3, 1), mode="nearest")


def nl_means(noisy, h, sigma):
    """Non-local means (Buades, Coll & Morel 2005, CVPR), scikit-image's: 5×5 patches, searched 6 pixels around.

    `h` is the cut-off distance of patches, `sigma` the noise's standard deviation that is taken off distances; both on
    the [0, 1] scale.
    """
    denoise = functools.partial(denoise_nl_means, h=h, sigma=sigma, channel_axis=-1, **NL_MEANS)
    with ThreadPoolExecutor() as pool:
        return _stack(pool.map(denoise, noisy), noisy)


def total_variation(noisy, weight):
    """Total-variation denoising (Chambolle 2004, J. Math. Imaging Vis. 20), scikit-image's; more `weight`, smoother."""
    # Not in threads: most of it holds the interpreter's lock.
    return _stack((denoise_tv_chambolle(image, weight=weight, channel_axis=-1) for image in noisy), noisy)


BASELINES = {"median 3×3": median, "non-local means": nl_means, "total variation": total_variation}


def best_parameters(baseline, noisy, clean):
    """Return the parameters, name -> value, with which `baseline` has the highest mean PSNR on these images."""
    rms = max(float(np.sqrt(np.mean((noisy - clean) ** 2))), 1e-3)  # scikit-image divides by it
    grids = {
        median: [{}],
        nl_means: [{"h": h * rms, "sigma": sigma * rms} for h, sigma in itertools.product(H, SIGMA)],
        total_variation: [{"weight": weight * rms} for weight in WEIGHT],
    }

    def mean_log_error(parameters):
        error = np.mean((baseline(noisy, **parameters) - clean) ** 2, axis=(1, 2, 3))
        return np.mean(np.log10(np.maximum(error, 1e-10)))

    return min(grids[baseline], key=mean_log_error)


def _stack(images, like):
    return np.stack(list(images)).reshape(like.shape).astype(np.float32)
