"""LiteRT (formerly TensorFlow Lite): model.tflite, for phones and small devices."""

import os
from collections.abc import Callable

import keras
import tensorflow as tf

from export.graph import network
from keras_dae._util.atomic import atomic_file


def export_litert(model: keras.Model, path: str | os.PathLike) -> None:
    """Write the network as LiteRT with Keras's exporter, atomically.

    The signature `serving_default` takes `noisy` and returns `denoised`, both float32
    `(batch, height, width, channels)` in [0, 1], of any size from 1×1. A signature runner resizes the model by itself;
    a bare interpreter needs `resize_tensor_input`. Only built-in operators are used. A runtime needs none of
    TensorFlow's.

    Args:
        model: a Keras model of `keras_dae.networks.NETWORKS`.
        path: the .tflite file to write.

    Raises:
        UserError: `model` is another network, or the file cannot be written.

    Example::

        from ai_edge_litert.interpreter import Interpreter
        from export import export_litert

        export_litert(model, "model.tflite")
        denoised = Interpreter("model.tflite").get_signature_runner()(noisy=noisy)["denoised"]
    """
    noisy = keras.Input((None, None, model.input_shape[-1]), name="noisy")
    deployed = keras.Model(noisy, {"denoised": Deployed(network(model, tf.int32))(noisy)})
    with atomic_file(path) as temporary:
        # Keras's exporter uses the converter of tf.lite, so its settings are named by tf.lite, too. It is public, but
        # deprecated; a test names the version that has it.
        builtins_only = {"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS]}
        deployed.export(temporary, format="litert", verbose=False, target_spec=builtins_only)


class Deployed(keras.layers.Layer):
    """The function that `export.graph.network` returns, as a layer: Keras's exporters take layers."""

    def __init__(self, denoise: Callable[[tf.Tensor], tf.Tensor]):
        super().__init__()
        self.denoise = denoise

    def call(self, noisy):
        return self.denoise(noisy)

    def compute_output_shape(self, shape):
        return shape
