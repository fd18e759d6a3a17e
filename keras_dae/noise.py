"""Noise models, each a pure TensorFlow function `(clean, factor, seed) -> noisy`.

Arguments of each noise model:

- `clean`: float32 `(batch, height, width, channels)` in [0, 1].
- `factor`: noise level, a scalar or a tensor `(batch, 1, 1, 1)`. Each model says what it means.
- `seed`: integer tensor `(2,)`.

The result has the shape and the type of `clean`. It is not clipped; `add_noise` does that. The same arguments give the
same noise on every machine, eagerly and inside tf.data, because the random generator is always Philox.
"""

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

from keras_dae.noise_names import PARTS, check_noise

Factor: TypeAlias = "float | tf.Tensor"

ENLARGED_DEVIATION = 0.75**2 + 0.25**2  # of white noise of deviation 1 at twice its size: bilinear weights on two axes
JPEG_QUALITIES = (40, 95)  # lowest and highest


def gaussian(clean: tf.Tensor, factor: Factor, seed: tf.Tensor) -> tf.Tensor:
    """clean + factor · n, n ~ N(0, 1): additive white Gaussian noise (Gonzalez & Woods, Digital Image Processing, 5.2).

    `factor` is the standard deviation on the [0, 1] scale, ≥ 0.
    """
    return clean + factor * _normal(clean, seed)


def uniform(clean: tf.Tensor, factor: Factor, seed: tf.Tensor) -> tf.Tensor:
    """clean + factor · u, u ~ U(-1, 1) (Gonzalez & Woods, 5.2).

    `factor` is the largest change on the [0, 1] scale, ≥ 0. The standard deviation is factor / √3.
    """
    return clean + factor * (2 * _uniform(clean, seed) - 1)


def salt(clean: tf.Tensor, factor: Factor, seed: tf.Tensor) -> tf.Tensor:
    """Values replaced by 1, each with probability `factor` in [0, 1] (impulse noise, Gonzalez & Woods, 5.2)."""
    return tf.where(_uniform(clean, seed) < factor, 1.0, clean)


def pepper(clean: tf.Tensor, factor: Factor, seed: tf.Tensor) -> tf.Tensor:
    """Values replaced by 0, each with probability `factor` in [0, 1] (impulse noise, Gonzalez & Woods, 5.2)."""
    return tf.where(_uniform(clean, seed) < factor, 0.0, clean)


def salt_and_pepper(clean: tf.Tensor, factor: Factor, seed: tf.Tensor) -> tf.Tensor:
    """Values replaced with probability `factor` in [0, 1], half of them by 1, half by 0 (Gonzalez & Woods, 5.2)."""
    draw = _uniform(clean, seed)
    return tf.where(draw < factor / 2, 1.0, tf.where(draw < factor, 0.0, clean))


def speckle(clean: tf.Tensor, factor: Factor, seed: tf.Tensor) -> tf.Tensor:
    """clean + factor · clean · n, n ~ N(0, 1): multiplicative noise, as in scikit-image's `random_noise`.

    `factor` is the standard deviation at a white pixel on the [0, 1] scale, ≥ 0.
    """
    return clean + factor * clean * _normal(clean, seed)


def poisson(clean: tf.Tensor, factor: Factor, seed: tf.Tensor) -> tf.Tensor:
    """factor² · k, k ~ Poisson(clean / factor²): shot noise of a sensor that counts 1 / factor² photons at white.

    (Hasinoff, "Photon, Poisson noise", in Computer Vision: A Reference Guide, 2014.) `factor` is the standard
    deviation at a white pixel on the [0, 1] scale, ≥ 0. At 0 the result is `clean`.
    """
    scale = tf.maximum(tf.cast(factor, tf.float32), 1e-4) ** 2  # at most 1e8 photons; float32 rounds by a part in 2²⁴
    counts = tf.random.stateless_poisson(tf.shape(clean), seed, lam=clean / scale, dtype=tf.float32)
    return tf.where(factor > 0, counts * scale, clean)


def poisson_gaussian(clean: tf.Tensor, factor: Factor, seed: tf.Tensor) -> tf.Tensor:
    """clean + √(a · clean + b) · n, n ~ N(0, 1), a + b = factor²: shot and read noise of a sensor, both as Gaussians.

    (Foi et al. 2008, "Practical Poissonian-Gaussian noise modeling and fitting for single-image raw-data".) The share
    of the shot noise, a / factor², is drawn from U(0, 1) for each image. `factor` is the standard deviation at a white
    pixel on the [0, 1] scale, ≥ 0.
    """
    seeds = tf.random.split(seed, 2, alg="philox")
    share = _per_image(clean, seeds[0])
    return clean + factor * tf.sqrt(share * clean + 1 - share) * _normal(clean, seeds[1])


def correlated(clean: tf.Tensor, factor: Factor, seed: tf.Tensor) -> tf.Tensor:
    """clean + factor · (w · m + √(1 - w²) · n), n ~ N(0, 1), m drawn at half the resolution and enlarged.

    Demosaicing and resizing leave such noise (Zhang et al. 2022, "Practical blind denoising via Swin-Conv-UNet and data
    synthesis", arXiv:2203.13278, makes it by resizing noisy images). m is enlarged bilinearly and has the standard
    deviation 1: its autocorrelation is 0.75 at a distance of one pixel and 0.3 at two. w is drawn from U(0.5, 1) for
    each image. `factor` is the standard deviation on the [0, 1] scale, ≥ 0.
    """
    seeds = tf.random.split(seed, 5, alg="philox")
    shape = tf.shape(clean)
    half = tf.concat([shape[:1], (shape[1:3] + 4) // 2, shape[3:]], 0)  # enlarged, it has a border that is cut off
    coarse = tf.random.stateless_normal(half, seeds[0], stddev=1 / ENLARGED_DEVIATION, alg="philox")
    coarse = tf.image.resize(coarse, 2 * half[1:3])
    # The grid of the coarse pixels begins at an even or an odd row and column, drawn for each image.
    rows = tf.where(_per_image(clean, seeds[3]) < 0.5, coarse[:, 1 : 1 + shape[1]], coarse[:, 2 : 2 + shape[1]])
    both = tf.where(_per_image(clean, seeds[4]) < 0.5, rows[:, :, 1 : 1 + shape[2]], rows[:, :, 2 : 2 + shape[2]])
    weight = _per_image(clean, seeds[1], 0.5)
    return clean + factor * (weight * both + tf.sqrt(1 - tf.square(weight)) * _normal(clean, seeds[2]))


def photo(clean: tf.Tensor, factor: Factor, seed: tf.Tensor) -> tf.Tensor:
    """What real photographs have: one of several noises; half of the images are then saved as JPEG.

    Each image gets `gaussian`, `poisson_gaussian` or `correlated`, with the same probability. In a third of the images,
    the noise is the same in all channels. The quality of the JPEGs is drawn from 40 … 95, and where their blocks begin.
    A JPEG holds 8 bits, so its values are always in [0, 1]. (Mixtures like this: SCUNet, arXiv:2203.13278, and
    Real-ESRGAN, Wang et al. 2021, arXiv:2107.10833.) `factor` is the standard deviation at a white pixel on the [0, 1]
    scale, ≥ 0. At 0 the result is `clean`.
    """
    names = PARTS["photo"]
    seeds = tf.random.split(seed, len(names) + 5, alg="philox")
    noise = _one_of(names, clean, factor, seeds, seeds[-1]) - clean
    channels = clean.shape[-1]
    grey = tf.reduce_mean(noise, -1, keepdims=True) * channels**0.5  # of the same standard deviation
    noise = tf.where(_per_image(clean, seeds[-2]) < 1 / 3, tf.broadcast_to(grey, tf.shape(noise)), noise)
    is_jpeg = (_per_image(clean, seeds[-3]) < 0.5) & (factor > 0)
    return tf.where(is_jpeg, _jpeg(clean + noise, seeds[-5:-3]), clean + noise)


def _jpeg(images, seeds):
    """Return what JPEG makes of images, which it clips to [0, 1]."""
    (low, high), shape = JPEG_QUALITIES, tf.shape(images)
    qualities = tf.random.stateless_uniform(shape[:1], seeds[0], low, high + 1, tf.int32, alg="philox")
    starts = tf.random.stateless_uniform((shape[0], 2), seeds[1], 0, 8, tf.int32, alg="philox")
    starts = tf.minimum(starts, shape[1:3])  # small images can be continued by their own size at most

    def save(given):
        image, quality, (top, left) = given[0], given[1], tf.unstack(given[2])
        larger = tf.pad(image, [[top, 0], [left, 0], [0, 0]], "SYMMETRIC")
        return tf.image.adjust_jpeg_quality(larger, quality)[top:, left:]

    in_bytes = tf.cast(tf.round(255 * tf.clip_by_value(images, 0.0, 1.0)), tf.uint8)
    saved = tf.map_fn(save, (in_bytes, qualities, starts), fn_output_signature=tf.uint8)
    return tf.cast(saved, tf.float32) / 255


def _one_of(names, clean, factor, seeds, seed):
    """Return noisy images, each by one of these noise models, all with the same probability.

    `seeds` has one for each model; `seed` decides which model an image gets.
    """
    noisy = NOISE_MODELS[names[0]](clean, factor, seeds[0])
    if len(names) > 1:
        chosen = _per_image(clean, seed, 0, len(names), tf.int32)
        for index in range(1, len(names)):
            noisy = tf.where(chosen == index, NOISE_MODELS[names[index]](clean, factor, seeds[index]), noisy)
    return noisy


def _per_image(clean, seed, low=0.0, high=1.0, dtype=tf.float32):
    """Return a draw from U(low, high) for each image: `(batch, 1, 1, 1)`; of integers, without `high`."""
    return tf.random.stateless_uniform((tf.shape(clean)[0], 1, 1, 1), seed, low, high, dtype, alg="philox")


def _normal(clean, seed):
    return tf.random.stateless_normal(tf.shape(clean), seed, alg="philox")


def _uniform(clean, seed):
    return tf.random.stateless_uniform(tf.shape(clean), seed, alg="philox")


NOISE_MODELS: dict[str, Callable[..., tf.Tensor]] = {
    model.__name__: model
    for model in (
        gaussian,
        uniform,
        salt,
        pepper,
        salt_and_pepper,
        speckle,
        poisson,
        poisson_gaussian,
        correlated,
        photo,
    )
}


def add_noise(
    clean: np.ndarray | tf.Tensor,
    noise: str | Iterable[str],
    noise_factor: float | Iterable[float],
    seed: Any,
    clip: bool = True,
) -> tf.Tensor:
    """Return noisy images: float32, the shape of `clean`.

    Args:
        clean: float32 `(batch, height, width, channels)` in [0, 1], eager or inside a graph.
        noise: a name of `keras_dae.noise_names.NOISES`, or several. With several, one of them is drawn for each image,
            all with the same probability.
        noise_factor: a number, or `(low, high)`. With two, a factor is drawn from U(low, high) for each image. Its
            meaning and its unit depend on the noise model.
        seed: two integers, or an integer tensor `(2,)`. The same seed gives the same noise.
        clip: whether values are clipped to [0, 1], as a camera or a file does.

    Raises:
        ValueError: unknown names or impossible factors, see `keras_dae.noise_names.check_noise`.

    Example::

        clean = np.zeros((100, 28, 28, 1), np.float32)
        noisy = add_noise(clean, "gaussian", 0.5, seed=(0, 0))  # σ = 0.5
        noisy = add_noise(clean, ("salt", "speckle"), (0.1, 0.3), seed=(0, 1))
    """
    names, factors = check_noise(noise, noise_factor)
    clean = tf.convert_to_tensor(clean, tf.float32)
    seeds = tf.random.split(seed, len(names) + 2, alg="philox")
    factor = _per_image(clean, seeds[-1], *factors) if len(factors) == 2 else factors[0]
    noisy = _one_of(names, clean, factor, seeds, seeds[-2])
    return tf.clip_by_value(noisy, 0.0, 1.0) if clip else noisy
