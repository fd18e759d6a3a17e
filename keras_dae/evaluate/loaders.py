"""A run's artefacts as functions, each loaded the way that its users load it."""

import os
from pathlib import Path

from keras_dae._util.batches import run_in_batches
from keras_dae.errors import UserError, first_line

BACKENDS = ("keras", "onnx", "int8", "saved_model")


def open_backend(run, backend):
    """Return a function from float32 `(n, height, width, channels)` to the denoised images, likewise, in [0, 1].

    Noise that was not clipped may leave [0, 1].

    Args:
        run: run folder.
        backend: one of BACKENDS. `keras` takes heights and widths that are multiples of 4, the others any.

    Raises:
        UserError: the artefact is not there or cannot be loaded.
    """
    return {"keras": _keras, "onnx": _onnx, "int8": _onnx, "saved_model": _saved_model}[backend](Path(run), backend)


def _keras(run, _):
    from keras_dae.networks.keras_file import load_model

    model = load_model(run / "model.keras")

    def denoise(noisy):
        _check_channels(run, model.input_shape[-1], noisy)
        return run_in_batches(model.predict_on_batch, noisy)

    return denoise


def _onnx(run, backend):
    from keras_dae.denoise.denoiser import load_denoiser

    denoiser = load_denoiser(_there(run, {"onnx": "model.onnx", "int8": "model.int8.onnx"}[backend]))

    def denoise(noisy):
        _check_channels(run, denoiser.channels, noisy)
        return denoiser.denoise_batch(noisy)

    return denoise


def _saved_model(run, _):
    import tensorflow as tf

    versions = [path for path in _there(run, "saved_model").iterdir() if path.name.isdecimal()]
    newest = max(versions, key=lambda path: int(path.name), default=run / "saved_model" / "1")
    try:
        signature = tf.saved_model.load(str(newest)).signatures["serving_default"]
    except (OSError, KeyError) as error:
        raise UserError(f"cannot load {newest}: {first_line(error)}") from None

    def denoise(noisy):
        _check_channels(run, signature.structured_input_signature[1]["noisy"].shape[-1], noisy)
        return run_in_batches(lambda part: signature(noisy=tf.constant(part))["denoised"], noisy)

    return denoise


def _check_channels(run, channels, noisy):
    if noisy.shape[-1] != channels:
        raise UserError(f"expected images of {channels} channels for {run}, got {noisy.shape[-1]}")


def _there(run, name):
    if not os.path.exists(run / name):
        raise UserError(f"expected {name} in {run}, found none; python -m export {run} makes it")
    return run / name
