"""The network as it is deployed: images of any size in, the same size out, without flips, and convolutions only.

`keras_dae.networks.autoencoder` flips the image so that built-in layers pad as PyTorch does. TensorFlow's functions
take explicit paddings, so here nothing is flipped, and the kernels are PyTorch's. What Keras leaves to its user is part
of this graph: padding up to a size that the network can work on, and cropping back.

The transposed convolutions are computed as ordinary ones, which runtimes do faster. Exactly so: the same products are
summed, in another order. A stride of 1 is a convolution with the flipped kernel. A stride of 2 gives four pixels for
each, so it is a convolution with four times the channels, one for each place (row, column) in a 2×2 block. The blocks
are laid out as pixels only once, at the very end (`depth_to_space`): a second stride of 2 reads the channels of the
blocks and gives those of 4×4 blocks. (Shi et al. 2016, "Is the deconvolution layer the same as a convolutional layer?",
arXiv:1609.07009.)
"""

import numpy as np
import tensorflow as tf

from keras_dae.networks.geometry import AUTOENCODER
from keras_dae.torch_weights import MODULES, to_state_dict

BEFORE = [[0, 0], [1, 0], [1, 0], [0, 0]]  # what PyTorch's padding=1 comes to at stride 2 on even sizes
AFTER = [[0, 0], [0, 1], [0, 1], [0, 0]]  # the same of a transposed convolution as a convolution


def network(model, integers=tf.int64):
    """Return a function from noisy to denoised images: float32 `(batch, height, width, channels)` in [0, 1], any size.

    Eager or inside a `tf.function`; the weights are constants.

    Args:
        model: the Keras model of `keras_dae.networks.autoencoder.build_autoencoder`.
        integers: dtype that sizes are computed in: int64 is ONNX's own, LiteRT's operators want int32.

    Raises:
        UserError: `model` is not this network.
    """
    state = to_state_dict(model)
    kernels = [np.ascontiguousarray(state[f"{module}.weight"].transpose(2, 3, 1, 0)) for module in MODULES]
    biases = [state[f"{module}.bias"] for module in MODULES]
    decoder = decoder_convolutions(kernels[len(AUTOENCODER.encoder) :], biases[len(AUTOENCODER.encoder) :])
    block = int(np.prod([layer.stride for layer in AUTOENCODER.decoder]))

    def denoise(noisy):
        with tf.name_scope("pad"):
            shape = tf.shape(noisy, out_type=integers)
            x = pad(noisy, shape[1:3])
        for layer, kernel, bias in zip(AUTOENCODER.encoder, kernels, biases):
            with tf.name_scope(layer.name):
                x = tf.nn.conv2d(x, kernel, layer.stride, BEFORE if layer.padding else "VALID")
                x = tf.nn.relu(tf.nn.bias_add(x, bias))
        for layer, (kernel, bias, padding) in zip(AUTOENCODER.decoder, decoder):
            with tf.name_scope(layer.name):
                x = tf.nn.bias_add(tf.nn.conv2d(x, kernel, 1, padding), bias)
                x = (tf.sigmoid if layer is AUTOENCODER.layers[-1] else tf.nn.relu)(x)
        with tf.name_scope("crop"):
            return tf.strided_slice(tf.nn.depth_to_space(x, block), tf.zeros(4, shape.dtype), shape)

    return denoise


def decoder_convolutions(kernels, biases):
    """Return `(kernel, bias, padding)` of the convolutions that compute the decoder's transposed ones, block by block.

    Args:
        kernels: of the transposed convolutions, `(size, size, out, in)` as TensorFlow has them.
        biases: of the same, `(out,)`.
    """
    convolutions, block = [], 1
    for kernel, bias, layer in zip(kernels, biases, AUTOENCODER.decoder):
        if layer.stride == 1:  # on whole pixels only, before any block
            flipped = kernel[::-1, ::-1].transpose(0, 1, 3, 2)
            padding = [[0, 0], [layer.kernel - 1] * 2, [layer.kernel - 1] * 2, [0, 0]]
            convolutions.append((np.ascontiguousarray(flipped), bias, padding))
        else:
            kernel = in_blocks(kernel, block)
            block *= layer.stride
            convolutions.append((kernel, np.tile(bias, block**2), AFTER))
    return convolutions


def in_blocks(kernel, block):
    """Return the kernel `(2, 2, block² · in, (2 · block)² · out)` of a transposed convolution on blocks of pixels.

    `kernel` `(3, 3, out, in)` has stride 2, padding 1 and output padding 1: along each axis, output pixel 2i is input
    pixel i by tap 1, and 2i + 1 is pixel i by tap 2 plus pixel i + 1 by tap 0. Channels count block row, block column,
    channel, as in `depth_to_space`.
    """
    _, _, outputs, inputs = kernel.shape
    made = np.zeros((2, 2, block, block, inputs, 2 * block, 2 * block, outputs), np.float32)
    taps = [
        (output, *divmod(output // 2 + offset, block), tap)
        for output in range(2 * block)
        for offset, tap in ([(0, 1)], [(0, 2), (1, 0)])[output % 2]
    ]
    for row, next_row, row_in, tap_row in taps:
        for column, next_column, column_in, tap_column in taps:
            made[next_row, next_column, row_in, column_in, :, row, column] = kernel[tap_row, tap_column].T
    return made.reshape(2, 2, block**2 * inputs, (2 * block) ** 2 * outputs)


def padded_size(size):
    """Return a size, or several, rounded up to one that the network works on: `Geometry.padded_size` as a tensor."""
    multiple = AUTOENCODER.multiple
    return tf.maximum((size + (multiple - 1)) // multiple * multiple, AUTOENCODER.min_padded_size)


def pad(images, size):
    """Return images `(batch, height, width, channels)` of `size` `(2,)` continued to a size the network works on.

    What is missing is gathered and appended, which costs next to nothing where nothing is missing. Not a branch
    around the padding: after one, OpenVINO 2026.4 computes garbage where sizes are not fixed.
    """
    for axis, (before, after) in enumerate(zip(tf.unstack(size), tf.unstack(padded_size(size))), start=1):
        images = tf.concat([images, tf.gather(images, mirrored(tf.range(before, after), before), axis=axis)], axis)
    return images


def mirrored(rows, size):
    """Return which row of an image of `size` rows stands at each of `rows`: 0 … size-1, then back and forth.

    The image is continued after its end by its own reflection, without the edge, however small it is.
    """
    period = tf.maximum(2 * size - 2, 1)
    step = rows % period
    return tf.minimum(step, period - step)
