"""The network as it is deployed: images of any size in, the same size out, without flips.

`keras_dae.model` flips the image so that built-in layers pad as PyTorch does. TensorFlow's functions take explicit
paddings, so here nothing is flipped, and the kernels are PyTorch's. What Keras leaves to its user is part of this
graph: padding up to a size that the network can work on, and cropping back.
"""

import numpy as np
import tensorflow as tf

from keras_dae.denoise import MULTIPLE, SMALLEST
from keras_dae.model import DECODER, ENCODER
from keras_dae.torch_weights import MODULES, to_state_dict

BEFORE = [[0, 0], [1, 0], [1, 0], [0, 0]]  # what PyTorch's padding=1 comes to at stride 2 on even sizes


def network(model):
    """Return a function from noisy to denoised images: float32 `(batch, height, width, channels)` in [0, 1], any size.

    Eager or inside a `tf.function`; the weights are constants.

    Args:
        model: the Keras model of `keras_dae.model.build_autoencoder`.

    Raises:
        UserError: `model` is not this network.
    """
    state = to_state_dict(model)
    kernels = [np.ascontiguousarray(state[f"{module}.weight"].transpose(2, 3, 1, 0)) for module in MODULES]
    biases = [state[f"{module}.bias"] for module in MODULES]

    def denoise(noisy):
        with tf.name_scope("pad"):
            shape = tf.shape(noisy, out_type=tf.int64)
            x = tf.gather(noisy, mirrored(shape[1]), axis=1)
            x = tf.gather(x, mirrored(shape[2]), axis=2)
        for index, (_, _, stride) in enumerate(ENCODER):
            with tf.name_scope(f"encoder_conv{index + 1}"):
                x = tf.nn.conv2d(x, kernels[index], stride, BEFORE if stride > 1 else "VALID")
                x = tf.nn.relu(tf.nn.bias_add(x, biases[index]))
        for index, (_, size, stride) in enumerate(DECODER):
            kernel, bias = kernels[len(ENCODER) + index], biases[len(ENCODER) + index]
            with tf.name_scope(f"decoder_conv_transpose{index + 1}"):
                output = transposed_shape(x, kernel, size, stride)
                x = tf.nn.conv2d_transpose(x, kernel, output, stride, BEFORE if stride > 1 else "VALID")
                x = (tf.nn.relu if index + 1 < len(DECODER) else tf.sigmoid)(tf.nn.bias_add(x, bias))
        with tf.name_scope("crop"):
            return tf.slice(x, tf.zeros_like(shape), shape)

    return denoise


def mirrored(size):
    """Return which of `size` rows stands at each row of the padded image: 0 … size-1, then back and forth.

    The image is continued after its end by its own reflection, without the edge, up to a multiple of 4 and to at
    least 20, however small it is.
    """
    padded = tf.maximum((size + MULTIPLE - 1) // MULTIPLE * MULTIPLE, SMALLEST)
    period = tf.maximum(2 * size - 2, 1)
    step = tf.range(padded) % period
    return tf.minimum(step, period - step)


def transposed_shape(x, kernel, size, stride):
    """Return the output shape of a transposed convolution of `x`, as `tf.nn.conv2d_transpose` wants it."""
    batch, height, width, _ = tf.unstack(tf.shape(x))
    if stride > 1:
        return tf.stack([batch, stride * height, stride * width, kernel.shape[2]])
    return tf.stack([batch, height + size - 1, width + size - 1, kernel.shape[2]])
