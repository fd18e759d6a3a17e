"""Contenders in inference: every way to run the same trained network on the same noisy 28×28 images.

python -m benchmarks.inference CONTENDER FOLDER THREADS [fixed]    (started by `python -m benchmarks`)

With `fixed`, onnxruntime is given fixed input shapes, for a batch of one image. Otherwise it computes the open sizes in
every call. In PyTorch's export only the batch size is open.
"""

import functools
import statistics
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.contender import serve
from keras_dae._util.environment import no_telemetry

BATCHES = (1, 32, 256, 1000)
SECONDS = 0.3  # calls are repeated for at least this long
MIN_CALLS = 5


def torch_eager(folder, threads, channels_last=False, compiled=False):
    import torch

    from benchmarks.torch_original import load

    torch.set_num_threads(threads)
    network = load(Path(folder, "original.safetensors")).eval()
    if channels_last:
        network = network.to(memory_format=torch.channels_last)
    if compiled:
        network = torch.compile(network, dynamic=False)

    def denoise(noisy):
        with torch.inference_mode():
            images = torch.from_numpy(noisy).permute(0, 3, 1, 2)
            return network(images if channels_last else images.contiguous()).permute(0, 2, 3, 1).numpy()

    return denoise


def torch_channels_last(folder, threads):
    return torch_eager(folder, threads, channels_last=True)


def torch_compile(folder, threads):
    return torch_eager(folder, threads, channels_last=True, compiled=True)


def torch_onnx(folder, threads, sizes=()):
    session = onnx_session(Path(folder, "torch.onnx"), threads, sizes)
    return lambda noisy: session.run(None, {"noisy": noisy.reshape(-1, 1, 28, 28)})[0].reshape(noisy.shape)


def model_onnx(folder, threads, sizes=(), file="model.onnx"):
    session = onnx_session(Path(folder, "run", file), threads, sizes)
    return lambda noisy: session.run(None, {"noisy": noisy})[0]


model_int8_onnx = functools.partial(model_onnx, file="model.int8.onnx")


def onnx_session(path, threads, sizes=()):
    with no_telemetry():
        import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    for dimension, size in sizes:
        options.add_free_dimension_override_by_name(dimension, size)
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def load_denoiser(folder, threads):
    import keras_dae

    return keras_dae.load_denoiser(Path(folder, "run"), threads)


def keras_predict(folder, threads):
    set_tensorflow_threads(threads)
    import keras

    model = keras.models.load_model(Path(folder, "run", "model.keras"), compile=False)
    return lambda noisy: model.predict(noisy, batch_size=len(noisy), verbose=0)


def saved_model(folder, threads):
    set_tensorflow_threads(threads)
    import tensorflow as tf

    version = max(Path(folder, "run", "saved_model").iterdir(), key=lambda path: int(path.name))
    loaded = tf.saved_model.load(version)
    return lambda noisy: loaded.signatures["serving_default"](noisy=tf.constant(noisy))["denoised"].numpy()


def set_tensorflow_threads(threads):
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)


CONTENDERS = {
    "PyTorch eager": torch_eager,
    "PyTorch eager, channels_last": torch_channels_last,
    "torch.compile, channels_last": torch_compile,
    "PyTorch's ONNX export": torch_onnx,
    "model.onnx": model_onnx,
    "model.int8.onnx": model_int8_onnx,
    "load_denoiser": load_denoiser,
    "Keras predict": keras_predict,
    "SavedModel": saved_model,
}

FIXED_SIZE_CONTENDERS = {
    "PyTorch's ONNX export": functools.partial(torch_onnx, sizes=[("batch", 1)]),
    "model.onnx": functools.partial(model_onnx, sizes=[("batch", 1), ("height", 28), ("width", 28)]),
    "model.int8.onnx": functools.partial(model_int8_onnx, sizes=[("batch", 1), ("height", 28), ("width", 28)]),
}


def main(name, folder, threads, fixed=None):
    """Serve measurements: the median seconds of a call at each batch size."""
    denoise = (CONTENDERS[name] if fixed is None else FIXED_SIZE_CONTENDERS[name])(folder, int(threads))
    images = np.load(Path(folder, "noisy.npy"))

    def measure():
        return {
            f"batch {size}": seconds_per_call(denoise, images[:size]) for size in (BATCHES if fixed is None else [1])
        }

    serve(measure)


def seconds_per_call(function, *arguments):
    """Return the median seconds of repeated calls."""
    times = []
    while len(times) < MIN_CALLS or sum(times) < SECONDS:
        start = time.perf_counter()
        function(*arguments)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


if __name__ == "__main__":
    main(*sys.argv[1:])
