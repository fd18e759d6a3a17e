"""LiteRT (once TensorFlow Lite): model.tflite, for phones and small devices."""

import keras
import tensorflow as tf

from export.graph import network
from keras_dae._util.atomic import atomic_file


def export_litert(model, path):
    """Write the network as LiteRT with Keras's own exporter, whole or not at all.

    The signature `serving_default` takes `noisy` and gives `denoised`, both float32 `(batch, height, width, channels)`
    in [0, 1], any size from 1×1: a signature runner resizes by itself, a bare interpreter by `resize_tensor_input`.
    Built-in operators only, so that no runtime needs TensorFlow's.

    Args:
        model: the Keras model.
        path: the .tflite file.

    Raises:
        UserError: `model` is not this network, or the file cannot be written.
    """
    noisy = keras.Input((None, None, model.input_shape[-1]), name="noisy")
    deployed = keras.Model(noisy, {"denoised": Deployed(network(model, tf.int32))(noisy)})
    with atomic_file(path) as temporary:
        only = {"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS]}
        deployed.export(temporary, format="litert", verbose=False, target_spec=only)


class Deployed(keras.layers.Layer):
    """The function that `export.graph.network` returns as a layer, which is what Keras's exporters take."""

    def __init__(self, denoise):
        super().__init__()
        self.denoise = denoise

    def call(self, noisy):
        return self.denoise(noisy)

    def compute_output_shape(self, shape):
        return shape
