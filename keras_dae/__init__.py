"""Train an image denoiser in Keras, export it, and verify that every export computes the same.

Public names load on first use, so that `import keras_dae` imports neither TensorFlow nor NumPy.
"""

from typing import TYPE_CHECKING

from keras_dae._util.lazy import lazy_names

if TYPE_CHECKING:
    from keras_dae.config import TrainConfig as TrainConfig
    from keras_dae.data.digits import render_digits as render_digits
    from keras_dae.data.load import load_dataset as load_dataset
    from keras_dae.denoise.denoiser import load_denoiser as load_denoiser
    from keras_dae.errors import UserError as UserError
    from keras_dae.networks import build_network as build_network
    from keras_dae.networks.autoencoder import build_autoencoder as build_autoencoder
    from keras_dae.noise import add_noise as add_noise
    from keras_dae.torch_weights import load_state_dict as load_state_dict
    from keras_dae.torch_weights import to_state_dict as to_state_dict
    from keras_dae.train.run import train_and_evaluate as train_and_evaluate

__version__ = "0.1.0"

_MODULE_OF = {
    "TrainConfig": "config",
    "UserError": "errors",
    "add_noise": "noise",
    "build_autoencoder": "networks.autoencoder",
    "build_network": "networks",
    "load_dataset": "data.load",
    "load_denoiser": "denoise.denoiser",
    "load_state_dict": "torch_weights",
    "render_digits": "data.digits",
    "to_state_dict": "torch_weights",
    "train_and_evaluate": "train.run",
}
__all__ = ["__version__", *sorted(_MODULE_OF)]
__getattr__, __dir__ = lazy_names(__name__, _MODULE_OF)
