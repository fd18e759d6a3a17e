"""How far images are from the clean ones: MSE, PSNR and SSIM of each image."""

import keras
import numpy as np
import tensorflow as tf

from keras_dae._util.batches import run_in_batches

MIN_MSE = 1e-10  # identical images count as 100 dB, so that a mean stays finite
CHUNK = 500  # images measured at once


def mse(clean, image):
    """Return the mean squared error of each image: `(batch,)`, for float32 `(batch, height, width, channels)`."""
    return keras.ops.mean(keras.ops.square(image - clean), axis=(1, 2, 3))


def psnr(clean, image):
    """Return each image's peak signal-to-noise ratio in dB, 10 log10(1 / MSE): `(batch,)`.

    Images are float32 `(batch, height, width, channels)` in [0, 1], the peak being 1; at most 100 dB.
    """
    return -10 * keras.ops.log10(keras.ops.maximum(mse(clean, image), MIN_MSE))


def ssim(clean, image):
    """Return each image's structural similarity in [-1, 1]: `(batch,)`.

    Images are float32 `(batch, height, width, channels)` in [0, 1], at least 11×11. Wang et al. 2004 ("Image
    quality assessment: from error visibility to structural similarity"): 11×11 Gaussian window, σ = 1.5.
    """
    return tf.image.ssim(clean, image, max_val=1.0)


METRICS = {metric.__name__: metric for metric in (mse, psnr, ssim)}


def measure(clean, images):
    """Return `{"mse", "psnr", "ssim"}`: float64 `(n,)` each, for arrays `(n, height, width, channels)` in [0, 1]."""
    return {name: _per_image(metric, clean, images) for name, metric in METRICS.items()}


def mean_metrics(clean, images, image=None):
    """Return `{"mse", "psnr", "ssim"}`: means over the images of arrays `(n, height, width, channels)` in [0, 1].

    Where these are patches, `image` says of which images, see `of_images`.
    """
    return {name: float(np.mean(of_images(values, image))) for name, values in measure(clean, images).items()}


def of_images(values, image):
    """Return the means over each image's patches: `(images,)`, of values `(n,)` of patches.

    Args:
        values: float `(n,)`.
        image: int `(n,)`, the number of the image that each patch is from; None where they are whole images.
    """
    if image is None:
        return values
    _, index = np.unique(image, return_inverse=True)
    return np.bincount(index, values) / np.bincount(index)


def _per_image(metric, clean, images):
    return run_in_batches(metric, clean, images, size=CHUNK).astype(np.float64)
