"""Train an image-denoising autoencoder in Keras; export it; prove that every export computes the same.

Public names load on first use, so that `import keras_dae` costs nothing and does not import TensorFlow.
"""

from keras_dae._util.lazy import lazy_names

__version__ = "0.1.0"

_MODULE_OF = {
    "TrainConfig": "config",
    "UserError": "errors",
    "add_noise": "noise",
    "build_autoencoder": "networks.autoencoder",
    "load_dataset": "data.load",
    "load_denoiser": "denoise.denoiser",
    "load_state_dict": "torch_weights",
    "render_digits": "data.digits",
    "to_state_dict": "torch_weights",
    "train_and_evaluate": "train.run",
}
__all__ = ["__version__", *sorted(_MODULE_OF)]
__getattr__, __dir__ = lazy_names(__name__, _MODULE_OF)
