"""The network: PyTorch's six-layer denoising autoencoder as a Keras functional model.

PyTorch's `padding=1, stride=2` pads one pixel on each side. On an even size the last of them is never used, so
what counts is one pixel *before* the image; TensorFlow's `same` puts it *after* the image. Between two flips of
both axes, with kernels flipped too, `same` is therefore exactly PyTorch's padding, for every image size, with
built-in layers alone: no padding or cropping layer (a third of a training step) and no custom class to load.
"""

import math

import keras
import numpy as np

from keras_dae.config import INITIALIZATIONS
from keras_dae.errors import UserError
from keras_dae.networks.geometry import AUTOENCODER


def build_autoencoder(image_shape=(None, None, 1), initialization="he", seed=None, mean=0.5):
    """Return the untrained autoencoder, a `keras.Model` from noisy to denoised images.

    Input and output are float32 `(batch, height, width, channels)` in [0, 1]. Height and width of the output
    are those of the input rounded up to a multiple of 4; both must be at least 17 pixels, since the 5×5 layers
    work on a quarter of the size without padding.

    Args:
        image_shape: `(height, width, channels)`; None for a height or width that is not fixed.
        initialization: `"he"`, or `"torch"` for PyTorch's own default rule (see `initializers`).
        seed: int that fixes the initial weights; None draws a new one.
        mean: of the clean images, in (0, 1). With `"he"` the untrained network's output is about that: otherwise
            the first steps do nothing but darken it, at the cost of units that never work again.

    Raises:
        UserError: when `image_shape` or `initialization` is not one of these.
    """
    height, width, channels = image_shape
    if channels not in (1, 3) or any(size is not None and size < AUTOENCODER.min_size for size in (height, width)):
        raise UserError(
            f"expected image_shape (height, width, 1 or 3), sizes None or ≥ {AUTOENCODER.min_size}, got {image_shape}"
        )
    initial = initializers(initialization, seed)
    logit = math.log(mean / (1 - mean))

    noisy = keras.Input((height, width, channels), name="noisy")
    x = keras.ops.flip(noisy, axis=(1, 2))
    inputs = channels
    for layer in AUTOENCODER.layers:
        filters, kernel, stride = layer.filters or channels, layer.kernel, layer.stride
        is_conv, is_last = layer.kind == "conv", layer is AUTOENCODER.layers[-1]
        make = keras.layers.Conv2D if is_conv else keras.layers.Conv2DTranspose
        x = make(
            filters,
            kernel,
            stride,
            padding="same" if layer.padding else "valid",
            activation="sigmoid" if is_last else "relu",
            name=layer.name,
            **initial(
                # What reaches one output pixel. Of a transposed layer, PyTorch counts the output channels instead.
                fan_in=inputs * (kernel**2 if is_conv else (kernel / stride) ** 2),
                torch_fan_in=(inputs if is_conv else filters) * kernel**2,
                bias=logit if is_last else 0,
            ),
        )(x)
        inputs = filters
    denoised = keras.ops.flip(x, axis=(1, 2))
    model = keras.Model(noisy, denoised, name="denoising_autoencoder")
    # `ops.flip` takes no name and Keras would number it by what else the process has built.
    model.operations[1].name, model.operations[-1].name = "flip_in", "flip_out"
    return model


def initializers(initialization, seed):
    """Return a function from a layer's fan-in to its `kernel_initializer` and `bias_initializer`.

    `he`: kernels N(0, 2 / fan_in) (He et al. 2015, arXiv:1502.01852, eq. 10), biases as given.
    `torch`: kernels and biases U(-b, b), b = 1 / sqrt(fan_in), which is what `kaiming_uniform_(a=sqrt(5))` in
    PyTorch's `_ConvNd.reset_parameters` comes to, its fan_in of a transposed layer counting output channels.
    """
    if initialization not in INITIALIZATIONS:
        raise UserError(f"expected initialization to be one of {INITIALIZATIONS}, got {initialization!r}")
    seeds = (int(word) for word in np.random.SeedSequence(seed).generate_state(2 * len(AUTOENCODER.layers)))

    def initial(fan_in, torch_fan_in, bias):
        if initialization == "he":
            kernel = keras.initializers.RandomNormal(stddev=(2 / fan_in) ** 0.5, seed=next(seeds))
            return {"kernel_initializer": kernel, "bias_initializer": keras.initializers.Constant(bias)}
        bound = torch_fan_in**-0.5
        return {
            "kernel_initializer": keras.initializers.RandomUniform(-bound, bound, seed=next(seeds)),
            "bias_initializer": keras.initializers.RandomUniform(-bound, bound, seed=next(seeds)),
        }

    return initial
