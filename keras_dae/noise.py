"""Noise models, each a pure TensorFlow function `(clean, factor, seed) -> noisy`.

`clean` is float32 `(batch, height, width, channels)` in [0, 1]; `factor` is a scalar or `(batch, 1, 1, 1)`;
`seed` is an integer tensor of shape `(2,)`. The same arguments give the same noise, eagerly and inside tf.data,
on every machine: the generator is always Philox. None of these functions clips; `add_noise` does.
"""

import tensorflow as tf

from keras_dae.noise_names import NOISES, check_noise


def gaussian(clean, factor, seed):
    """clean + factor · n, n ~ N(0, 1): additive white Gaussian noise (Gonzalez & Woods, Digital Image Processing, 5.2).

    `factor` is the standard deviation on the [0, 1] scale, ≥ 0.
    """
    return clean + factor * _normal(clean, seed)


def uniform(clean, factor, seed):
    """clean + factor · u, u ~ U(-1, 1) (Gonzalez & Woods, 5.2).

    `factor` is the largest change on the [0, 1] scale, ≥ 0; the standard deviation is factor / √3.
    """
    return clean + factor * (2 * _uniform(clean, seed) - 1)


def salt(clean, factor, seed):
    """Values replaced by 1, each with probability `factor` in [0, 1] (impulse noise, Gonzalez & Woods, 5.2)."""
    return tf.where(_uniform(clean, seed) < factor, 1.0, clean)


def pepper(clean, factor, seed):
    """Values replaced by 0, each with probability `factor` in [0, 1] (impulse noise, Gonzalez & Woods, 5.2)."""
    return tf.where(_uniform(clean, seed) < factor, 0.0, clean)


def salt_and_pepper(clean, factor, seed):
    """Values replaced with probability `factor` in [0, 1], half of them by 1, half by 0 (Gonzalez & Woods, 5.2)."""
    draw = _uniform(clean, seed)
    return tf.where(draw < factor / 2, 1.0, tf.where(draw < factor, 0.0, clean))


def speckle(clean, factor, seed):
    """clean + factor · clean · n, n ~ N(0, 1): multiplicative noise, as scikit-image's `random_noise` has it.

    `factor` is the standard deviation at a white pixel on the [0, 1] scale, ≥ 0.
    """
    return clean + factor * clean * _normal(clean, seed)


def poisson(clean, factor, seed):
    """factor² · k, k ~ Poisson(clean / factor²): shot noise of a sensor that counts 1 / factor² photons at white.

    (Hasinoff, "Photon, Poisson noise", in Computer Vision: A Reference Guide, 2014.) `factor` is the standard
    deviation at a white pixel on the [0, 1] scale, ≥ 0; at 0 the image comes back as it is.
    """
    scale = tf.maximum(tf.cast(factor, tf.float32), 1e-4) ** 2  # float32 counts are exact up to 1e8 photons
    counts = tf.random.stateless_poisson(tf.shape(clean), seed, lam=clean / scale, dtype=tf.float32)
    return tf.where(factor > 0, counts * scale, clean)


def _normal(clean, seed):
    return tf.random.stateless_normal(tf.shape(clean), seed, alg="philox")


def _uniform(clean, seed):
    return tf.random.stateless_uniform(tf.shape(clean), seed, alg="philox")


MODELS = {name: globals()[name] for name in NOISES}


def add_noise(clean, noise, noise_factor, seed, clip=True):
    """Return noisy images: float32, the shape of `clean`.

    Args:
        clean: float32 `(batch, height, width, channels)` in [0, 1], eager or inside a graph.
        noise: a name of NOISES, or several: then each image gets one of them, drawn with equal chances.
        noise_factor: a number, or `(low, high)`: then each image's factor is drawn from U(low, high). Its meaning
            is the noise model's.
        seed: two integers (or an integer tensor of shape `(2,)`); the same seed gives the same noise.
        clip: whether values are cut to [0, 1], as a camera or a file does.

    Raises:
        ValueError: see `keras_dae.noise_names.check_noise`.
    """
    noise, factors = check_noise(noise, noise_factor)
    clean = tf.convert_to_tensor(clean, tf.float32)
    seeds = tf.random.split(seed, len(noise) + 2, alg="philox")
    per_image = (tf.shape(clean)[0], 1, 1, 1)

    factor = factors[0]
    if len(factors) == 2:
        factor = tf.random.stateless_uniform(per_image, seeds[-1], *factors, alg="philox")
    noisy = MODELS[noise[0]](clean, factor, seeds[0])
    if len(noise) > 1:
        chosen = tf.random.stateless_uniform(per_image, seeds[-2], 0, len(noise), tf.int32, alg="philox")
        for index in range(1, len(noise)):
            noisy = tf.where(chosen == index, MODELS[noise[index]](clean, factor, seeds[index]), noisy)
    return tf.clip_by_value(noisy, 0.0, 1.0) if clip else noisy
