"""The autoencoder in the form that is deployed: convolutions only.

`keras_dae.networks.autoencoder` flips the image so that Keras's built-in layers pad as PyTorch does. TensorFlow's
functions take explicit paddings, so nothing is flipped here, and the kernels are PyTorch's.

The transposed convolutions are computed as ordinary ones, because runtimes are faster at those. The result is the same:
the same products are summed, in another order. A transposed convolution of stride 1 is a convolution with the flipped
kernel. One of stride 2 turns each pixel into a 2×2 block of four pixels. It is a convolution with four times the output
channels, one set for each place (row, column) in the block. The channels are rearranged into pixels only once, at the
very end (`depth_to_space`): a second layer of stride 2 reads channels that stand for 2×2 blocks and gives 4×4 blocks.
Source: Shi et al. 2016, "Is the deconvolution layer the same as a convolutional layer?", arXiv:1609.07009.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from keras_dae.networks.geometry import AUTOENCODER
from keras_dae.torch_weights import to_state_dict

if TYPE_CHECKING:
    import keras

Padding = list[list[int]]  # pixels before and after, for each of (batch, height, width, channels)

# What PyTorch's padding=1 does at stride 2 on even sizes: the row after the last one is never read.
PAD_BEFORE: Padding = [[0, 0], [1, 0], [1, 0], [0, 0]]
# A transposed convolution of stride 2, computed on blocks, reads each block and the next one.
PAD_AFTER: Padding = [[0, 0], [0, 1], [0, 1], [0, 0]]


def network(model: "keras.Model") -> Callable[[tf.Tensor], tf.Tensor]:
    """Return the function from padded noisy images to denoised ones in [0, 1], with the weights as constants.

    Args:
        model: the Keras model of `keras_dae.networks.autoencoder.build_autoencoder`, or its stored form.

    Raises:
        UserError: `model` is another network.
    """
    state = to_state_dict(model)
    names = [layer.torch_name for layer in AUTOENCODER.layers]
    kernels = [np.ascontiguousarray(state[f"{name}.weight"].transpose(2, 3, 1, 0)) for name in names]
    biases = [state[f"{name}.bias"] for name in names]
    encoder_depth = len(AUTOENCODER.encoder)
    decoder = decoder_convolutions(kernels[encoder_depth:], biases[encoder_depth:])
    block = int(np.prod([layer.stride for layer in AUTOENCODER.decoder]))

    def denoise(x):
        for layer, kernel, bias in zip(AUTOENCODER.encoder, kernels, biases):
            with tf.name_scope(layer.name):
                x = tf.nn.conv2d(x, kernel, layer.stride, PAD_BEFORE if layer.padding else "VALID")
                x = tf.nn.relu(tf.nn.bias_add(x, bias))
        for layer, (kernel, bias, padding) in zip(AUTOENCODER.decoder, decoder):
            with tf.name_scope(layer.name):
                x = tf.nn.bias_add(tf.nn.conv2d(x, kernel, 1, padding), bias)
                x = (tf.sigmoid if layer is AUTOENCODER.layers[-1] else tf.nn.relu)(x)
        with tf.name_scope("crop/"):
            return tf.nn.depth_to_space(x, block)

    return denoise


def decoder_convolutions(
    kernels: list[np.ndarray], biases: list[np.ndarray]
) -> list[tuple[np.ndarray, np.ndarray, Padding]]:
    """Return `(kernel, bias, padding)` of the convolutions that compute the decoder's transposed convolutions.

    Args:
        kernels: of the transposed convolutions, float32 `(height, width, out, in)`, TensorFlow's layout for those.
        biases: of the transposed convolutions, float32 `(out,)`.

    Returns:
        One convolution for each layer. The kernels are `(height, width, in, out)`, TensorFlow's layout for
        convolutions. After a layer of stride 2, the channels stand for blocks of pixels, see `in_blocks`.
    """
    convolutions, block = [], 1
    for kernel, bias, layer in zip(kernels, biases, AUTOENCODER.decoder):
        if layer.stride == 1:  # it comes before all layers of stride 2, so its input is pixels, not blocks
            flipped = kernel[::-1, ::-1].transpose(0, 1, 3, 2)
            padding = [[0, 0], [layer.kernel - 1] * 2, [layer.kernel - 1] * 2, [0, 0]]
            convolutions.append((np.ascontiguousarray(flipped), bias, padding))
        else:
            kernel = in_blocks(kernel, block)
            block *= layer.stride
            convolutions.append((kernel, np.tile(bias, block**2), PAD_AFTER))
    return convolutions


def in_blocks(kernel: np.ndarray, block: int) -> np.ndarray:
    """Return the kernel of the convolution that computes a transposed convolution of stride 2 on blocks of pixels.

    Along one axis, with input pixels `in[i]` and the taps k0, k1, k2, a transposed convolution of stride 2, padding 1
    and output padding 1 is

        out[2i]     = in[i]·k1
        out[2i + 1] = in[i]·k2 + in[i+1]·k0

    With block=1, each input position holds one pixel and each output position holds two, so for i = 0

        out[0] = in[0]·k1
        out[1] = in[0]·k2 + in[1]·k0

    This is a convolution with two taps (this position, the next one) and two output channels (even, odd pixel):
    tap 0 is [k1, k2] and tap 1 is [0, k0]. With block=2, each input position holds two pixels and each output position
    four, and `in[i+1]` may belong to the same position or to the next one.

    Args:
        kernel: of the transposed convolution, float32 `(3, 3, out, in)`.
        block: input pixels at each position, along each axis.

    Returns:
        float32 `(2, 2, block²·in, (2·block)²·out)`. The channels count (row in the block, column in the block,
        channel), the last one fastest, as `depth_to_space` expects.

    Example:
        >>> taps = np.zeros((3, 3, 1, 1), np.float32)
        >>> taps[:, 1, 0, 0] = [10, 11, 12]  # k0, k1, k2 along the rows; columns: k1 alone
        >>> in_blocks(taps, block=1)[:, 0, 0].reshape(2, 2, 2)[..., 0].tolist()  # (tap, output row)
        [[11.0, 12.0], [0.0, 10.0]]
    """
    _, _, outputs, inputs = kernel.shape
    # Axes: row and column of the tap; row, column and channel in the input block; the same in the output block.
    made = np.zeros((2, 2, block, block, inputs, 2 * block, 2 * block, outputs), np.float32)
    # Along one axis: (pixel of the output block, tap of the result, pixel of the input block, tap of `kernel`).
    taps = [
        (output, *divmod(output // 2 + offset, block), tap)
        for output in range(2 * block)
        for offset, tap in ([(0, 1)], [(0, 2), (1, 0)])[output % 2]
    ]
    for row_out, made_row, row_in, kernel_row in taps:
        for column_out, made_column, column_in, kernel_column in taps:
            made[made_row, made_column, row_in, column_in, :, row_out, column_out] = kernel[kernel_row, kernel_column].T
    return made.reshape(2, 2, block**2 * inputs, (2 * block) ** 2 * outputs)
