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

from keras_dae.noise_names import check_noise

Factor: TypeAlias = "float | tf.Tensor"


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
    scale = tf.maximum(tf.cast(factor, tf.float32), 1e-4) ** 2  # float32 counts are exact up to 1e8 photons
    counts = tf.random.stateless_poisson(tf.shape(clean), seed, lam=clean / scale, dtype=tf.float32)
    return tf.where(factor > 0, counts * scale, clean)


def _normal(clean, seed):
    return tf.random.stateless_normal(tf.shape(clean), seed, alg="philox")


def _uniform(clean, seed):
    return tf.random.stateless_uniform(tf.shape(clean), seed, alg="philox")


NOISE_MODELS: dict[str, Callable[..., tf.Tensor]] = {
    model.__name__: model for model in (gaussian, uniform, salt, pepper, salt_and_pepper, speckle, poisson)
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
    per_image: Any = (tf.shape(clean)[0], 1, 1, 1)

    factor = factors[0]
    if len(factors) == 2:
        factor = tf.random.stateless_uniform(per_image, seeds[-1], *factors, alg="philox")
    noisy = NOISE_MODELS[names[0]](clean, factor, seeds[0])
    if len(names) > 1:
        chosen = tf.random.stateless_uniform(per_image, seeds[-2], 0, len(names), tf.int32, alg="philox")
        for index in range(1, len(names)):
            noisy = tf.where(chosen == index, NOISE_MODELS[names[index]](clean, factor, seeds[index]), noisy)
    return tf.clip_by_value(noisy, 0.0, 1.0) if clip else noisy
