"""Run one artefact as its users run it: in a new process, without Keras.

`python consumer.py ARTEFACT inputs.npz outputs.npz` reads noisy batches, stored under any names, and writes the
denoised batches under the same names. Both signatures of a SavedModel are run. `denoise_image` reads and writes 8-bit
PNG files; its outputs are stored as uint8 under `png:<name>`.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]  # name -> batch (batch, height, width, channels)


def run_onnx(path: str, inputs: Arrays) -> Arrays:
    """Run an ONNX file with onnxruntime; return the denoised batches."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # onnxruntime would report to its maker; it reads this during the import
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return {name: session.run(["denoised"], {"noisy": noisy})[0] for name, noisy in inputs.items()}


def run_litert(path: str, inputs: Arrays) -> Arrays:
    """Run a LiteRT file; return the denoised batches. The signature runner resizes the model to each batch."""
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(path).get_signature_runner("serving_default")
    return {name: runner(noisy=noisy)["denoised"] for name, noisy in inputs.items()}


def run_saved_model(path: str, inputs: Arrays) -> Arrays:
    """Run both signatures of a SavedModel, after the warm-up requests; return the denoised batches."""
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


def replay_warmup(path: Path, signatures: Mapping[str, Any]) -> None:
    """Send the requests in a warm-up file to `signatures`, as TF Serving does when it loads a version."""
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    for record in tf.data.TFRecordDataset(str(path)):
        request = prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
        inputs = {name: tf.constant(tf.make_ndarray(value)) for name, value in request.inputs.items()}
        signatures[request.model_spec.signature_name](**inputs)


def main(path: str, inputs_file: str, outputs_file: str) -> None:
    """Run one artefact on the batches in a file."""
    sys.modules["keras"] = None  # type: ignore[assignment]  # from now on, importing it fails
    with np.load(inputs_file, allow_pickle=False) as arrays:
        inputs = dict(arrays)
    outputs = {".onnx": run_onnx, ".tflite": run_litert}.get(Path(path).suffix, run_saved_model)(path, inputs)
    np.savez(outputs_file, **outputs)  # type: ignore[arg-type]  # no output is called allow_pickle


if __name__ == "__main__":
    main(*sys.argv[1:])
