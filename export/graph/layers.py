"""A network of built-in Keras layers as TensorFlow functions, layer by layer.

The layers may be Conv2D and Conv2DTranspose with the padding `same` and without activation, ReLU and Add. A transposed
convolution of stride s becomes a convolution with s² times the output channels, one set for each place in a block of
s×s pixels, and `depth_to_space`, which puts the blocks together. The result is the same: the same products are summed,
in another order. Runtimes are faster at it. Source: Shi et al. 2016, arXiv:1609.07009.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from keras_dae.errors import UserError

if TYPE_CHECKING:
    import keras

Tensors = list[tf.Tensor]


def network(model: "keras.Model") -> Callable[[tf.Tensor], tf.Tensor]:
    """Return the function from padded noisy images to denoised ones in [0, 1], with the weights as constants.

    Args:
        model: a functional Keras model with one input and one output.

    Raises:
        UserError: a layer is of another kind.
    """
    steps = [(layer, _function(layer)) for layer in model.layers[1:]]  # the first one is the input

    def denoise(x):
        values = {model.layers[0].output.name: x}
        for layer, function in steps:
            inputs = layer.input if isinstance(layer.input, list) else [layer.input]
            with tf.name_scope(layer.name):
                values[layer.output.name] = function([values[tensor.name] for tensor in inputs])
        return tf.clip_by_value(values[model.outputs[0].name], 0.0, 1.0)

    return denoise


def _function(layer: "keras.Layer") -> Callable[[Tensors], tf.Tensor]:
    """Return what a layer computes."""
    kind = type(layer).__name__
    if kind == "ReLU":
        return lambda inputs: tf.nn.relu(inputs[0])
    if kind == "Add":
        return lambda inputs: sum(inputs[1:], start=inputs[0])
    if kind not in ("Conv2D", "Conv2DTranspose") or not _is_plain(layer):
        raise UserError(f"expected layers that can be exported, got {layer.name}, a {kind}")
    kernel, stride = layer.get_weights()[0], layer.strides[0]
    if kind == "Conv2D":
        before = (kernel.shape[0] - stride) // 2  # for sizes that are multiples of the stride
        padding = [[0, 0], *[[before, kernel.shape[0] - stride - before]] * 2, [0, 0]]
        return lambda inputs: tf.nn.conv2d(inputs[0], kernel, stride, padding)
    made, padding = as_convolution(kernel, stride)
    if stride == 1:
        return lambda inputs: tf.nn.conv2d(inputs[0], made, 1, padding)
    return lambda inputs: tf.nn.depth_to_space(tf.nn.conv2d(inputs[0], made, 1, padding), stride)


def _is_plain(layer: "keras.Layer") -> bool:
    """Return whether a convolution pads with `same`, and has neither a bias nor an activation."""
    return layer.padding == "same" and not layer.use_bias and layer.activation.__name__ == "linear"


def as_convolution(kernel: np.ndarray, stride: int) -> tuple[np.ndarray, list[list[int]]]:
    """Return `(kernel, padding)` of the convolution that computes a transposed convolution in blocks of pixels.

    Along one axis, with the padding `same`, `kernel - stride` rows are cut off, half of them before the first row. So
    the input row j adds to the output row `stride·i + r` with the tap `r + before + stride·(i - j)`, if there is one.

    Args:
        kernel: of the transposed convolution, float32 `(size, size, out, in)`, size ≥ stride.
        stride: pixels along each axis.

    Returns:
        The kernel, float32 `(taps, taps, in, stride²·out)`, whose channels count (row in the block, column in the
        block, channel), the last one fastest, as `depth_to_space` expects; and its padding for `tf.nn.conv2d`.

    Example:
        >>> made, padding = as_convolution(np.arange(4, dtype=np.float32).reshape(2, 2, 1, 1), stride=2)
        >>> made.tolist(), padding
        ([[[[0.0, 1.0, 2.0, 3.0]]]], [[0, 0], [0, 0], [0, 0], [0, 0]])
    """
    size, _, outputs, inputs = kernel.shape
    before = (size - stride) // 2
    # (row in the block, j - i, tap) for all taps that exist.
    taps = [
        (row, (row + before - tap) // stride, tap)
        for row in range(stride)
        for tap in range(size)
        if (row + before - tap) % stride == 0
    ]
    first, last = min(offset for _, offset, _ in taps), max(offset for _, offset, _ in taps)
    made = np.zeros((last - first + 1, last - first + 1, inputs, stride, stride, outputs), np.float32)
    for row, down, tap in taps:
        for column, right, across in taps:
            made[down - first, right - first, :, row, column] = kernel[tap, across].T
    padding = [[0, 0], [-first, last], [-first, last], [0, 0]]
    return made.reshape(*made.shape[:3], stride**2 * outputs), padding
