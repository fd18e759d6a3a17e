"""The networks as files hold them: built-in layers that every Keras 3 knows, on every backend.

`build_autoencoder` flips the image, because that trains fastest. But a flip is not a layer: Keras files name it by the
path of a private module. The stored form pads and crops as PyTorch does, and its kernels are PyTorch's, so they are
those of `build_autoencoder`, flipped. Both forms compute the same sums, in another order. Other networks are stored as
they are trained.

The config is written here, not by Keras: it names only what the oldest Keras 3 knows. A newer Keras would add settings
that an older one refuses.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from keras_dae.errors import UserError
from keras_dae.networks import NETWORKS, network_name
from keras_dae.networks.geometry import AUTOENCODER, ConvLayer
from keras_dae.networks.keras_settings import standard_settings

if TYPE_CHECKING:
    import keras

# The settings of layers in a file, besides name and data type. Those that are left out have their defaults.
SETTINGS = {
    "InputLayer": ("batch_shape",),
    "Conv2D": ("filters", "kernel_size", "strides", "padding", "data_format", "use_bias"),
    "Conv2DTranspose": ("filters", "kernel_size", "strides", "padding", "data_format", "use_bias"),
    "ReLU": (),
    "Add": (),
}


@standard_settings()
def to_stored_form(model: "keras.Model") -> "keras.Model":
    """Return the stored form of a network, with its weights.

    Args:
        model: made by `keras_dae.networks.build_network`, or loaded from a file.

    Raises:
        UserError: `model` is another network.
    """
    import keras

    weights = layer_weights(model)
    if network_name(model) != "autoencoder":
        return model
    stored = keras.Sequential.from_config(stored_config(model)["config"])
    stored.set_weights([weight for pair in weights for weight in pair])
    return stored


def layer_weights(model: "keras.Model") -> list[tuple[np.ndarray, ...]]:
    """Return `(kernel, bias)` or `(kernel,)` of each layer in order, float32; the kernels are the stored form's.

    Args:
        model: made by `keras_dae.networks.build_network`, or loaded from a file.

    Raises:
        UserError: `model` is another network.
    """
    name = network_name(model)
    ours = NETWORKS[name].geometry.layers
    layers = [model.get_layer(layer.name) for layer in ours]
    weights = [tuple(layer.get_weights()) for layer in layers]
    if any(len(pair) != 1 + layer.bias or pair[0].ndim != 4 for pair, layer in zip(weights, ours)):
        raise UserError("expected other weights in its layers: not this network")
    if name == "autoencoder" and _is_flipped(layers, ours):
        return [(kernel[::-1, ::-1], bias) for kernel, bias in weights]
    return weights


def _is_flipped(layers: list[Any], ours: tuple[ConvLayer, ...]) -> bool:
    """Return whether the layers are those that `build_autoencoder` makes, not those of the stored form."""
    paddings = {getattr(layer, "padding", None) for layer, known in zip(layers, ours) if known.padding}
    if paddings not in ({"valid"}, {"same"}):
        raise UserError(
            f"expected layers that all pad alike, got paddings {sorted(map(str, paddings))}: not this network"
        )
    return paddings == {"same"}


def stored_config(model: "keras.Model") -> dict[str, Any]:
    """Return the content of config.json in a `.keras` file.

    Args:
        model: one of our networks.
    """
    image_shape = model.input_shape[1:]
    if network_name(model) == "autoencoder":
        return _autoencoder_config(image_shape)
    config = model.get_config()
    layers = [
        {
            **_layer(layer["class_name"], layer["name"], **_known_settings(layer)),
            "name": layer["name"],
            "inbound_nodes": layer["inbound_nodes"],
        }
        for layer in config["layers"]
    ]
    network = {name: config[name] for name in ("name", "input_layers", "output_layers")}
    network |= {"trainable": True, "layers": layers}
    return {"module": "keras", "class_name": "Model", "registered_name": None, "config": network}


def _known_settings(layer: dict[str, Any]) -> dict[str, Any]:
    return {name: layer["config"][name] for name in SETTINGS[layer["class_name"]]}


def _autoencoder_config(image_shape: tuple[int | None, int | None, int]) -> dict[str, Any]:
    """Return the config of the autoencoder for images of `(height, width, channels)`; None for a size that may vary."""
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
