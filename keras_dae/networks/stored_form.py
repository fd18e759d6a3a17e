"""The autoencoder as files hold it: a chain of built-in layers that every Keras 3 knows, on every backend.

`build_autoencoder` flips the image, because that trains fastest. But a flip is not a layer: Keras files name it by the
path of a private module. The stored form pads and crops as PyTorch does, and its kernels are PyTorch's, so they are
those of `build_autoencoder`, flipped. Both forms compute the same sums, in another order.

The config is written here, not by Keras: it names only what the oldest Keras 3 knows. A newer Keras would add settings
that an older one refuses.
"""

from typing import Any

import keras

from keras_dae.errors import UserError
from keras_dae.networks.geometry import AUTOENCODER
from keras_dae.networks.keras_settings import standard_settings


@standard_settings()
def to_stored_form(model: keras.Model) -> keras.Sequential:
    """Return the stored form of a network, with its weights.

    Args:
        model: made by `build_autoencoder`, or loaded from a file.

    Raises:
        UserError: `model` is another network.
    """
    weights = [weight for pair in layer_weights(model) for weight in pair]
    stored = keras.Sequential.from_config(stored_config(model.input_shape[1:])["config"])
    stored.set_weights(weights)
    return stored


def layer_weights(model: keras.Model) -> list[tuple[Any, Any]]:
    """Return `(kernel, bias)` of each layer in order, float32 arrays; the kernels are those of the stored form.

    Args:
        model: made by `build_autoencoder`, or loaded from a file.

    Raises:
        UserError: `model` is another network.
    """
    try:
        layers = [model.get_layer(layer.name) for layer in AUTOENCODER.layers]
        weights = [tuple(layer.get_weights()) for layer in layers]
        paddings = {layer.padding for layer, ours in zip(layers, AUTOENCODER.layers) if ours.padding}
    except (AttributeError, ValueError):
        raise UserError("expected the denoising autoencoder, got a model with other layers: not this network") from None
    if any(len(pair) != 2 or pair[0].ndim != 4 for pair in weights) or len(model.get_weights()) != 2 * len(layers):
        raise UserError("expected a kernel and a bias in each layer, got other weights: not this network")
    if paddings == {"valid"}:
        return weights
    if paddings == {"same"}:
        return [(kernel[::-1, ::-1], bias) for kernel, bias in weights]
    raise UserError(f"expected layers that all pad alike, got paddings {sorted(paddings)}: not this network")


def stored_config(image_shape: tuple[int | None, int | None, int]) -> dict[str, Any]:
    """Return the content of config.json in a `.keras` file.

    Args:
        image_shape: `(height, width, channels)`, in pixels; None for a height or width that may vary.
    """
    layers = [_layer("InputLayer", "noisy", batch_shape=[None, *image_shape])]
    for layer in AUTOENCODER.layers:
        if layer.kind == "conv" and layer.padding:
            padding = [[layer.padding, layer.padding]] * 2
            layers.append(
                _layer("ZeroPadding2D", f"{layer.name}_padding", padding=padding, data_format="channels_last")
            )
        layers.append(
            _layer(
                "Conv2D" if layer.kind == "conv" else "Conv2DTranspose",
                layer.name,
                filters=layer.filters or image_shape[-1],
                kernel_size=[layer.kernel, layer.kernel],
                strides=[layer.stride, layer.stride],
                padding="valid",
                data_format="channels_last",
                activation="sigmoid" if layer is AUTOENCODER.layers[-1] else "relu",
            )
        )
        if layer.kind == "transposed" and layer.padding:
            cropping = [[layer.padding, layer.padding - layer.output_padding]] * 2
            layers.append(
                _layer("Cropping2D", f"{layer.name}_cropping", cropping=cropping, data_format="channels_last")
            )
    network = {"name": "denoising_autoencoder", "dtype": "float32", "layers": layers}
    return {"module": "keras", "class_name": "Sequential", "registered_name": None, "config": network}


def _layer(class_name: str, name: str, **settings: Any) -> dict[str, Any]:
    config = {"name": name, "dtype": "float32", **settings}
    return {"module": "keras.layers", "class_name": class_name, "registered_name": None, "config": config}
