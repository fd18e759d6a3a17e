"""The networks by name. Each has a module with its layers and the function that builds it; Keras loads only then."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from keras_dae.errors import UserError
from keras_dae.networks.autoencoder import build_autoencoder, describe_autoencoder
from keras_dae.networks.geometry import AUTOENCODER, Geometry
from keras_dae.networks.unet import UNET, build_unet, describe_unet

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Network:
    """One kind of network.

    Attributes:
        geometry: its layers, and all that follows from them.
        build: returns the untrained Keras model; its arguments are those of `build_autoencoder`.
        title: what it is, in words.
        describe: returns its layers and activations in words, for images of so many channels.
    """

    geometry: Geometry
    build: Callable[..., "keras.Model"]
    title: str
    describe: Callable[[int], str]


NETWORKS = {
    "autoencoder": Network(
        AUTOENCODER,
        build_autoencoder,
        "image-denoising autoencoder",
        describe_autoencoder,
    ),
    "unet": Network(
        UNET,
        build_unet,
        "image-denoising U-Net",
        describe_unet,
    ),
}


def build_network(name: str, *args: Any, **settings: Any) -> "keras.Model":
    """Return an untrained network.

    Args:
        name: a name of NETWORKS.
        args, settings: the arguments of `keras_dae.networks.autoencoder.build_autoencoder`.

    Raises:
        UserError: the name is unknown, or an argument is out of its range.

    Example::

        model = build_network("unet", (None, None, 3), seed=0)
    """
    if name not in NETWORKS:
        raise UserError(f"expected network to be one of {', '.join(NETWORKS)}, got {name!r}")
    return NETWORKS[name].build(*args, **settings)


def network_name(model: "keras.Model") -> str:
    """Return the name of the network that a Keras model is, by the names of its layers with weights.

    Raises:
        UserError: it is none of NETWORKS.
    """
    layers = {layer.name for layer in getattr(model, "layers", ()) if layer.weights}
    for name, network in NETWORKS.items():
        if layers == {layer.name for layer in network.geometry.layers}:
            return name
    raise UserError(
        f"expected one of the networks {', '.join(NETWORKS)}, got a model with other layers: not this network"
    )
