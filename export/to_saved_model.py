"""SavedModel for TF Serving: numbered versions below one folder, two signatures, warm-up requests."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import model_pb2, predict_pb2, prediction_log_pb2

from export.graph import network
from export.image_graph import decode, denoise_decoded, encode

if TYPE_CHECKING:
    import keras

WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"  # TF Serving looks for it there
WARMUP_SHAPES = ((1, 28, 28), (32, 28, 28), (1, 64, 48))  # batch, height, width


def export_saved_model(model: "keras.Model", path: str | os.PathLike) -> None:
    """Write the network as a SavedModel into the folder `path`, which must not exist.

    Signatures:
        serving_default: `noisy`, float32 `(batch, height, width, channels)` in [0, 1] → `denoised`, of the same type,
            shape and range. Any size from 1×1.
        denoise_image: `image_bytes`, string `(batch,)`, each a PNG or JPEG file of any size → `denoised_bytes`, PNG
            files with the pixels that `python -m keras_dae.denoise` computes: colour stays colour, alpha is kept,
            16 bits stay 16 bits. Only the pixels are answered: a colour profile, a palette and other metadata are not
            in the answer. Files whose pixels cannot be understood without their metadata are refused, see
            `export.image_graph.decode`. The names end in `_bytes`, so TF Serving's REST API uses base64 for them.

    Args:
        model: a Keras model of `keras_dae.networks.NETWORKS`.
        path: the folder to write, usually `saved_model/<version>`.

    Raises:
        UserError: `model` is another network.

    Example::

        import tensorflow as tf
        from export import export_saved_model

        export_saved_model(model, "saved_model/1")
        denoise = tf.saved_model.load("saved_model/1").signatures["serving_default"]
        denoised = denoise(noisy=tf.constant(noisy))["denoised"]
    """
    channels = model.input_shape[-1]
    denoise = network(model)

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, channels), tf.float32, "noisy")])
    def serving_default(noisy):
        return {"denoised": denoise(noisy)}

    def denoise_one(image_bytes):
        return encode(denoise_decoded(denoise, decode(image_bytes), channels))

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, "image_bytes")])
    def denoise_image(image_bytes):
        return {"denoised_bytes": tf.map_fn(denoise_one, image_bytes, fn_output_signature=tf.string)}

    signatures = {"serving_default": serving_default, "denoise_image": denoise_image}
    tf.saved_model.save(tf.Module(), path, signatures=signatures)
    write_warmup(Path(path, WARMUP_FILE), channels)


def write_warmup(path: Path, channels: int) -> None:
    """Write requests that TF Serving replays when it loads a version, so that users do not wait for the first runs."""
    random = np.random.default_rng(0)
    path.parent.mkdir(parents=True)
    with tf.io.TFRecordWriter(os.fspath(path)) as writer:
        for shape in WARMUP_SHAPES:
            noisy = random.random((*shape, channels), np.float32)
            writer.write(_request_log("serving_default", noisy=noisy).SerializeToString())
            images = [tf.io.encode_png(np.uint8(255 * image)).numpy() for image in noisy]
            writer.write(_request_log("denoise_image", image_bytes=np.array(images)).SerializeToString())


def _request_log(signature, **inputs):
    request = predict_pb2.PredictRequest(
        model_spec=model_pb2.ModelSpec(signature_name=signature),
        inputs={name: tf.make_tensor_proto(value) for name, value in inputs.items()},
    )
    return prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
