"""The PyTorch original's six-layer denoising autoencoder as a Keras functional model.

In PyTorch, `padding=1, stride=2` pads one pixel on each side. If the size is even, the last of them is never read, so
only the pixel *before* the image counts. TensorFlow's `same` pads one pixel *after* the image. So the model flips both
axes of its input, its kernels are flipped too, and its output is flipped back. Then `same` is exactly PyTorch's
padding for every image size, without padding and cropping layers, which would take a part of each training step. Files
hold the network with those layers, see `keras_dae.networks.stored_form`.
"""

import math
from typing import TYPE_CHECKING, Any

from keras_dae.errors import UserError
from keras_dae.networks.geometry import AUTOENCODER
from keras_dae.networks.initializers import initializers
from keras_dae.networks.keras_settings import standard_settings

if TYPE_CHECKING:
    import keras

FLIPS = ("flip_rows_in", "flip_columns_in"), ("flip_rows_out", "flip_columns_out")


@standard_settings()
def build_autoencoder(
    image_shape: tuple[int | None, int | None, int] = (None, None, 1),
    initialization: str = "he",
    seed: int | None = None,
    mean: float = 0.5,
) -> "keras.Model":
    """Return the untrained autoencoder, a model from noisy to denoised images.

    Input and output are float32 `(batch, height, width, channels)` in [0, 1]. The output's height and width are the
    input's, rounded up to `AUTOENCODER.multiple` (see `keras_dae.networks.geometry`).

    Args:
        image_shape: `(height, width, channels)`, in pixels, at least `AUTOENCODER.min_size`; None for a height or
            width that may vary. Channels are 1 (grey) or 3 (RGB).
        initialization: `"he"`, or `"torch"` for PyTorch's default rule; see
            `keras_dae.networks.initializers.initializers`.
        seed: fixes the initial weights; None draws new ones.
        mean: mean of the clean images, in (0, 1). With `"he"`, the output of the untrained network is close to it.
            Otherwise the first steps only darken the output, and units die on the way.

    Raises:
        UserError: `image_shape` or `initialization` is not one of these.

    Example::

        model = build_autoencoder(seed=0)
        denoised = model(noisy)  # both float32 (batch, 28, 28, 1) in [0, 1]
    """
    import keras

    height, width, channels = image_shape
    if channels not in (1, 3) or any(size is not None and size < AUTOENCODER.min_size for size in (height, width)):
        raise UserError(
            f"expected image_shape (height, width, 1 or 3), sizes None or ≥ {AUTOENCODER.min_size}, got {image_shape}"
        )
    layer_initializers = initializers(initialization, seed, len(AUTOENCODER.layers))
    logit = math.log(mean / (1 - mean))  # the sigmoid of it is `mean`

    noisy = keras.Input((height, width, channels), name="noisy")
    x = flip(noisy)
    inputs = channels
    for layer in AUTOENCODER.layers:
        filters, kernel, stride = layer.filters or channels, layer.kernel, layer.stride
        is_conv, is_last = layer.kind == "conv", layer is AUTOENCODER.layers[-1]
        layer_class = keras.layers.Conv2D if is_conv else keras.layers.Conv2DTranspose
        x = layer_class(
            filters,
            kernel,
            stride,
            padding="same" if layer.padding else "valid",
            activation="sigmoid" if is_last else "relu",
            name=layer.name,
            **layer_initializers(
                # The number of products in one output pixel. For transposed layers, PyTorch's rule counts others.
                fan_in=inputs * (kernel**2 if is_conv else (kernel / stride) ** 2),
                torch_fan_in=(inputs if is_conv else filters) * kernel**2,
                bias=logit if is_last else 0,
            ),
        )(x)
        inputs = filters
    model = keras.Model(noisy, flip(x), name="denoising_autoencoder")
    # `ops.flip` takes no name, and Keras would number it by what else the process has built.
    for flips, names in zip((model.operations[1:3], model.operations[-2:]), FLIPS):
        for operation, name in zip(flips, names):
            operation.name = name
    return model


def describe_autoencoder(channels: int) -> str:
    """Return the layers in words, for images of so many channels."""
    return f"{AUTOENCODER.describe(channels)}, with a sigmoid after the last layer and ReLU after the others"


def flip(images: Any) -> Any:
    """Return images `(batch, height, width, channels)` with their rows and their columns in the opposite order.

    Keras 3.12 and 3.13 fail on a flip of two axes at once.
    """
    import keras

    return keras.ops.flip(keras.ops.flip(images, axis=1), axis=2)
