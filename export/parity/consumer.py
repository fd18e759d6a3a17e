"""One artefact, run as its users run it: without Keras, in a process of its own.

`python consumer.py ARTEFACT inputs.npz outputs.npz` reads arrays `noisy` batches under any names and writes
the denoised ones under the same names. A SavedModel is called by its signatures; its `denoise_image` gets and gives
8-bit PNGs, and its results stand under `png:<name>` as uint8.
"""

import sys
from pathlib import Path

import numpy as np


def run_onnx(path, inputs):
    """Return what onnxruntime makes of each batch."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return {name: session.run(["denoised"], {"noisy": noisy})[0] for name, noisy in inputs.items()}


def run_litert(path, inputs):
    """Return what LiteRT makes of each batch; the runner resizes the input to it."""
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(path).get_signature_runner("serving_default")
    return {name: runner(noisy=noisy)["denoised"] for name, noisy in inputs.items()}


def run_saved_model(path, inputs):
    """Return what both signatures make of each batch, after replaying the warm-up requests."""
    import tensorflow as tf

    signatures = tf.saved_model.load(str(path)).signatures
    replay_warmup(Path(path, "assets.extra", "tf_serving_warmup_requests"), signatures)
    outputs = {}
    for name, noisy in inputs.items():
        outputs[name] = signatures["serving_default"](noisy=tf.constant(noisy))["denoised"].numpy()
        images = np.array([tf.io.encode_png(np.uint8(np.rint(255 * image))).numpy() for image in noisy])
        denoised = signatures["denoise_image"](image_bytes=tf.constant(images))["denoised_bytes"].numpy()
        outputs[f"png:{name}"] = np.stack([tf.io.decode_png(image).numpy() for image in denoised])
    return outputs


def replay_warmup(path, signatures):
    """Call `signatures` with the requests in a warm-up file, as TF Serving does when it loads a version."""
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    for record in tf.data.TFRecordDataset(str(path)):
        request = prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
        inputs = {name: tf.constant(tf.make_ndarray(value)) for name, value in request.inputs.items()}
        signatures[request.model_spec.signature_name](**inputs)


def main(path, inputs_file, outputs_file):
    """Run one artefact on the inputs in a file."""
    sys.modules["keras"] = None  # from here on an attempt to import it fails
    with np.load(inputs_file, allow_pickle=False) as arrays:
        inputs = dict(arrays)
    outputs = {".onnx": run_onnx, ".tflite": run_litert}.get(Path(path).suffix, run_saved_model)(path, inputs)
    np.savez(outputs_file, **outputs)


if __name__ == "__main__":
    main(*sys.argv[1:])
