"""How close images are to the clean ones: MSE, PSNR and SSIM of each image."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_dae._util.batches import run_in_batches

MIN_MSE = 1e-10  # limits PSNR to 100 dB, so that a mean stays finite when images are identical
CHUNK_IMAGES = 500  # images measured at once


def mse(clean: Any, image: Any) -> Any:
    """Return the mean squared error of each image: float32 `(batch,)`.

    Args:
        clean: float32 array or tensor `(batch, height, width, channels)` in [0, 1].
        image: the images to compare with the clean ones, in the same form.
    """
    return keras.ops.mean(keras.ops.square(image - clean), axis=(1, 2, 3))


def psnr(clean: Any, image: Any) -> Any:
    """Return the peak signal-to-noise ratio of each image in dB, 10 log10(1 / MSE), at most 100: float32 `(batch,)`.

    Args:
        clean: float32 array or tensor `(batch, height, width, channels)` in [0, 1]; the peak is 1.
        image: the images to compare with the clean ones, in the same form.
    """
    decades: Any = keras.ops.log10(keras.ops.maximum(mse(clean, image), MIN_MSE))
    return -10 * decades


def ssim(clean: Any, image: Any) -> Any:
    """Return the structural similarity of each image, in [-1, 1]: float32 `(batch,)`.

    Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity": 11×11 Gaussian
    window with σ = 1.5.

    Args:
        clean: float32 array or tensor `(batch, height, width, channels)` in [0, 1], at least 11×11 pixels.
        image: the images to compare with the clean ones, in the same form.
    """
    return tf.image.ssim(clean, image, max_val=1.0)


METRICS: dict[str, Callable[[Any, Any], Any]] = {"mse": mse, "psnr": psnr, "ssim": ssim}


def per_image_metrics(clean: np.ndarray, images: np.ndarray) -> dict[str, np.ndarray]:
    """Return each metric of METRICS for each image: name -> float64 `(n,)`.

    Args:
        clean: float32 `(n, height, width, channels)` in [0, 1].
        images: the images to compare with the clean ones, in the same form.
    """
    return {
        name: run_in_batches(metric, clean, images, size=CHUNK_IMAGES).astype(np.float64)
        for name, metric in METRICS.items()
    }


def mean_metrics(clean: np.ndarray, images: np.ndarray, image_index: np.ndarray | None = None) -> dict[str, float]:
    """Return the mean of each metric of METRICS over the images: name -> value.

    Args:
        clean: float32 `(n, height, width, channels)` in [0, 1].
        images: the images to compare with the clean ones, in the same form.
        image_index: for patches, see `mean_per_image`: each image counts once, however many patches it has.
    """
    values = per_image_metrics(clean, images)
    return {name: float(np.mean(mean_per_image(value, image_index))) for name, value in values.items()}


def mean_per_image(values: np.ndarray, image_index: np.ndarray | None) -> np.ndarray:
    """Return the mean over the patches of each image: float `(images,)`.

    Args:
        values: float `(n,)`, one value per patch.
        image_index: int `(n,)`, the number of the image that each patch was cut from; None for whole images, whose
            values are returned unchanged.

    Example:
        >>> mean_per_image(np.array([1.0, 3.0, 5.0]), np.array([7, 7, 9])).tolist()
        [2.0, 5.0]
    """
    if image_index is None:
        return values
    _, index = np.unique(image_index, return_inverse=True)
    return np.bincount(index, values) / np.bincount(index)
