"""The networks in the form that is deployed: images of any size in, the same size out, convolutions only.

The Keras networks take sizes of their grid; the deployed graph pads an image to such a size, and crops the result. Each
network may have a builder for what happens in between, in a form that runtimes compute fastest; the others are built
layer by layer.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import tensorflow as tf

from export.graph import autoencoder, layers
from keras_dae.networks import NETWORKS, network_name
from keras_dae.networks.geometry import Grid

if TYPE_CHECKING:
    import keras

# Network -> function that takes its Keras model and returns a function of padded images; layer by layer if not named.
BUILDERS = {"autoencoder": autoencoder.network}


def network(model: "keras.Model", size_dtype: tf.DType = tf.int64) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return the function from noisy to denoised images, with the weights as constants.

    It takes and returns float32 `(batch, height, width, channels)` of any size from 1×1. Its result is in [0, 1]. It
    can be called eagerly or inside a `tf.function`.

    Args:
        model: a Keras model of `keras_dae.networks.NETWORKS`.
        size_dtype: dtype that sizes are computed in. ONNX uses int64; LiteRT's operators take int32.

    Raises:
        UserError: `model` is another network.
    """
    name = network_name(model)
    denoise_padded = BUILDERS.get(name, layers.network)(model)
    grid = NETWORKS[name].geometry.grid

    def denoise(noisy):
        with tf.name_scope("pad"):
            shape = tf.shape(noisy, out_type=size_dtype)
            x = pad(noisy, shape[1:3], grid)
        x = denoise_padded(x)
        with tf.name_scope("crop"):
            return tf.strided_slice(x, tf.zeros(4, shape.dtype), shape)

    return denoise


def padded_size(size: tf.Tensor, grid: Grid) -> tf.Tensor:
    """Return sizes, in pixels, rounded up to those that the network takes: `Grid.padded_size` for tensors."""
    return tf.maximum((size + (grid.multiple - 1)) // grid.multiple * grid.multiple, grid.min_padded_size)


def pad(images: tf.Tensor, size: tf.Tensor, grid: Grid) -> tf.Tensor:
    """Continue images by reflection to a size that the network takes.

    The missing rows and columns are gathered and appended, which costs almost nothing if none are missing. There is no
    branch around the padding: with one, OpenVINO 2026.4 computes garbage unless the sizes are fixed.

    Args:
        images: `(batch, height, width, channels)`.
        size: `(2,)`, their height and width.
        grid: of the network.
    """
    for axis, (before, after) in enumerate(zip(tf.unstack(size), tf.unstack(padded_size(size, grid))), start=1):
        index = reflected_index(tf.range(before, after), before)
        images = tf.concat([images, tf.gather(images, index, axis=axis)], axis)
    return images


def reflected_index(positions: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Return the row of an image that each position shows when the image is continued by its reflection.

    The edge is not repeated, and an image smaller than the padding is reflected several times. 3 rows, continued: 0, 1,
    2, 1, 0, 1, 2, …

    Args:
        positions: integers from 0.
        size: rows in the image, at least 1.
    """
    period = tf.maximum(2 * size - 2, 1)
    step = positions % period
    return tf.minimum(step, period - step)
