"""A U-Net that keeps detail: the original's ingredients (3×3 convolutions, stride 2, ReLU) with additive skips.

It has no biases, no normalization and no activation after the last layer, so that f(a·x) = a·f(x) for a > 0: it treats
dark and bright images alike, and copes with noise levels beyond those of the training (Mohan et al. 2020, "Robust and
interpretable blind image denoising via bias-free convolutional neural networks", arXiv:1906.05478). The blocks, the
2×2 convolutions of stride 2 and the additive skips are those of DRUNet (Zhang et al. 2021, arXiv:2008.13751). The first
layer goes to half the resolution at once, as in FFDNet (Zhang et al. 2018, arXiv:1710.04026): with few pixels and more
channels, a processor computes faster. The last sum adds the noisy image, so that the layers learn the noise alone, as
in DnCNN (Zhang et al. 2017, arXiv:1608.03981).
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from keras_dae.errors import UserError
from keras_dae.networks.geometry import ConvLayer, Geometry
from keras_dae.networks.initializers import initializers
from keras_dae.networks.keras_settings import standard_settings

if TYPE_CHECKING:
    import keras

HALF, QUARTER = 32, 64  # channels at half and at a quarter of the image's resolution
ENCODER_BLOCKS, MIDDLE_BLOCKS, DECODER_BLOCKS = 1, 3, 1
BRANCH_SCALE = 0.1  # of the initial weights before a sum: at first, a block, and the whole network, change little


def _layers() -> Iterator[ConvLayer]:
    """Yield the layers in the order in which an image passes them, except that skips leave some out."""
    yield _layer("head", "conv", HALF, kernel=6, stride=2, padding=2)  # a 3×3 convolution of blocks of 2×2 pixels
    yield from _blocks("encoder", ENCODER_BLOCKS, HALF)
    yield _layer("down", "conv", QUARTER, kernel=2, stride=2)
    yield from _blocks("middle", MIDDLE_BLOCKS, QUARTER)
    yield _layer("up", "transposed", HALF, kernel=2, stride=2)
    yield from _blocks("decoder", DECODER_BLOCKS, HALF)
    yield _layer("tail", "transposed", None, kernel=6, stride=2, padding=2)


def _blocks(stage: str, count: int, filters: int) -> Iterator[ConvLayer]:
    for block in range(1, count + 1):
        for number in (1, 2):
            yield _layer(f"{stage}_block{block}_conv{number}", "conv", filters, kernel=3, padding=1)


def _layer(name: str, kind: Literal["conv", "transposed"], filters: int | None, **sizes: int) -> ConvLayer:
    return ConvLayer(name, kind, filters, bias=False, torch_name=name.replace("_conv", ".conv"), **sizes)


UNET = Geometry(tuple(_layers()))


def describe_unet(channels: int) -> str:
    """Return the layers in words, for images of so many channels.

    Example:
        >>> describe_unet(1)[:60]
        'Conv2d 1→32 to half the resolution, 1 residual block, Conv2d'
    """
    return (
        f"Conv2d {channels}→{HALF} to half the resolution, {_counted(ENCODER_BLOCKS)}, Conv2d {HALF}→{QUARTER} to a "
        f"quarter, {_counted(MIDDLE_BLOCKS)}, ConvTranspose2d {QUARTER}→{HALF}, an additive skip, "
        f"{_counted(DECODER_BLOCKS)}, ConvTranspose2d {HALF}→{channels}, added to the noisy image; without biases, and "
        "with ReLU inside the blocks alone"
    )


def _counted(blocks: int) -> str:
    return f"{blocks} residual block{'' if blocks == 1 else 's'}"


@standard_settings()
def build_unet(
    image_shape: tuple[int | None, int | None, int] = (None, None, 1),
    initialization: str = "he",
    seed: int | None = None,
    mean: float = 0.5,
) -> "keras.Model":
    """Return the untrained U-Net, a model from noisy to denoised images.

    Input and output are float32 `(batch, height, width, channels)`. Images are in [0, 1]. Noisy values may leave that
    range, and so may the output.

    Args:
        image_shape: `(height, width, channels)`, in pixels, multiples of `UNET.multiple`; None for a height or width
            that may vary. Channels are 1 (grey) or 3 (RGB).
        initialization: `"he"`, or `"torch"` for PyTorch's default rule, see
            `keras_dae.networks.initializers.initializers`.
        seed: fixes the initial weights; None draws new ones.
        mean: without effect; a network without biases starts with any mean.

    Raises:
        UserError: `image_shape` or `initialization` is not one of these.

    Example::

        model = build_unet(seed=0)
        denoised = model(noisy)  # both float32 (batch, 64, 64, 1)
    """
    import keras

    height, width, channels = image_shape
    if channels not in (1, 3) or any(size is not None and size % UNET.multiple for size in (height, width)):
        raise UserError(
            f"expected image_shape (height, width, 1 or 3), sizes None or multiples of {UNET.multiple}, got "
            f"{image_shape}"
        )
    layers = {layer.name: layer for layer in UNET.layers}
    layer_initializers = initializers(initialization, seed, len(layers))

    def convolve(name: str, x: "keras.KerasTensor", gain: float = 1, scale: float = 1) -> "keras.KerasTensor":
        layer = layers[name]
        filters, is_conv = layer.filters or channels, layer.kind == "conv"
        layer_class = keras.layers.Conv2D if is_conv else keras.layers.Conv2DTranspose
        settings = layer_initializers(
            fan_in=x.shape[-1] * (layer.kernel**2 if is_conv else (layer.kernel / layer.stride) ** 2),
            torch_fan_in=(x.shape[-1] if is_conv else filters) * layer.kernel**2,
            gain=gain,
            scale=scale,
        )
        del settings["bias_initializer"]
        return layer_class(filters, layer.kernel, layer.stride, padding="same", use_bias=False, name=name, **settings)(
            x
        )

    def blocks(stage: str, count: int, x: "keras.KerasTensor") -> "keras.KerasTensor":
        for name in (f"{stage}_block{block}" for block in range(1, count + 1)):
            branch = convolve(f"{name}_conv1", x, gain=2)
            branch = keras.layers.ReLU(name=f"{name}_relu")(branch)
            branch = convolve(f"{name}_conv2", branch, scale=BRANCH_SCALE)
            x = keras.layers.Add(name=f"{name}_add")([x, branch])
        return x

    noisy = keras.Input(image_shape, name="noisy")
    half = blocks("encoder", ENCODER_BLOCKS, convolve("head", noisy))
    quarter = blocks("middle", MIDDLE_BLOCKS, convolve("down", half))
    half = keras.layers.Add(name="skip")([convolve("up", quarter), half])
    noise = convolve("tail", blocks("decoder", DECODER_BLOCKS, half), scale=BRANCH_SCALE)
    denoised = keras.layers.Add(name="denoised")([noisy, noise])
    return keras.Model(noisy, denoised, name="denoising_unet")
