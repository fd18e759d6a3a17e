"""SavedModel for TF Serving: numbered versions below one folder, two signatures, warm-up requests."""

import os
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import model_pb2, predict_pb2, prediction_log_pb2

from export.graph import network

WARMUP = "assets.extra/tf_serving_warmup_requests"  # where TF Serving looks for them
WARMUP_SIZES = ((1, 28, 28), (32, 28, 28), (1, 64, 48))  # batch, height, width


def export_saved_model(model, path):
    """Write the network as a SavedModel into the folder `path`, which must not exist.

    Signatures:
        serving_default: `noisy` float32 `(batch, height, width, channels)` in [0, 1] → `denoised`, the same shape;
            any size from 1×1.
        denoise_image: `image_bytes` string `(batch,)`, each a PNG or JPEG of any size → `denoised_bytes`, 8-bit PNGs
            of the same sizes. The names end in `_bytes`, so that TF Serving's REST API takes and gives base64.

    Args:
        model: the Keras model.
        path: the folder, usually `saved_model/<version>`.

    Raises:
        UserError: `model` is not this network.
    """
    channels = model.input_shape[-1]
    denoise = network(model)

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, channels), tf.float32, "noisy")])
    def serving_default(noisy):
        return {"denoised": denoise(noisy)}

    def denoise_one(image_bytes):
        image = tf.io.decode_image(image_bytes, channels, expand_animations=False)
        denoised = denoise(tf.cast(image, tf.float32)[None] / 255)[0]
        return tf.io.encode_png(tf.cast(tf.round(denoised * 255), tf.uint8))

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, "image_bytes")])
    def denoise_image(image_bytes):
        return {"denoised_bytes": tf.map_fn(denoise_one, image_bytes, fn_output_signature=tf.string)}

    signatures = {"serving_default": serving_default, "denoise_image": denoise_image}
    tf.saved_model.save(tf.Module(), path, signatures=signatures)
    write_warmup(Path(path, WARMUP), channels)


def next_version(folder):
    """Return the number after the highest version below TF Serving's model_base_path `folder`."""
    versions = [int(path.name) for path in Path(folder).glob("*") if path.name.isdigit()]
    return max(versions, default=0) + 1


def write_warmup(path, channels):
    """Write requests that TF Serving replays when it loads a version, so that no user waits for the first ones."""
    random = np.random.default_rng(0)
    path.parent.mkdir(parents=True)
    with tf.io.TFRecordWriter(os.fspath(path)) as writer:
        for size in WARMUP_SIZES:
            noisy = random.random((*size, channels), np.float32)
            writer.write(_log("serving_default", noisy=noisy).SerializeToString())
            images = [tf.io.encode_png(np.uint8(255 * image)).numpy() for image in noisy]
            writer.write(_log("denoise_image", image_bytes=np.array(images)).SerializeToString())


def _log(signature, **inputs):
    request = predict_pb2.PredictRequest(
        model_spec=model_pb2.ModelSpec(signature_name=signature),
        inputs={name: tf.make_tensor_proto(value) for name, value in inputs.items()},
    )
    return prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
