"""The artefacts of a run as functions that denoise, each loaded as its users load it."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from keras_dae._util.batches import run_in_batches
from keras_dae.errors import UserError, first_line

ONNX_FILES = {"onnx": "model.onnx", "int8": "model.int8.onnx"}
BACKENDS = ("keras", *ONNX_FILES, "saved_model")

Denoise = Callable[[np.ndarray], np.ndarray]


def open_backend(run: str | os.PathLike, backend: str) -> Denoise:
    """Return a function from noisy to denoised images, both float32 `(n, height, width, channels)` in [0, 1].

    Noisy images may leave [0, 1] if they are not clipped. The function raises `UserError` if they have another number
    of channels than the network.

    Args:
        run: run folder.
        backend: one of BACKENDS. `keras` takes only the sizes that fit the network, see `keras_dae.networks.geometry`;
            the others take any size.

    Raises:
        UserError: the artefact is missing or cannot be loaded.
    """
    run = Path(run)
    if backend == "keras":
        channels, denoise = _keras(run)
    elif backend == "saved_model":
        channels, denoise = _saved_model(run)
    else:
        channels, denoise = _onnx(run, ONNX_FILES[backend])

    def checked(noisy: np.ndarray) -> np.ndarray:
        if noisy.shape[-1] != channels:
            raise UserError(f"expected images of {channels} channels for {run}, got {noisy.shape[-1]}")
        return denoise(noisy)

    return checked


def _keras(run: Path) -> tuple[int, Denoise]:
    """Return the number of channels of model.keras, and a function that runs it."""
    from keras_dae.networks.keras_file import load_model

    model = load_model(run / "model.keras")
    return model.input_shape[-1], lambda noisy: run_in_batches(model.predict_on_batch, noisy).clip(0, 1)


def _onnx(run: Path, name: str) -> tuple[int, Denoise]:
    """Return the number of channels of an ONNX file, and a function that runs it."""
    from keras_dae.denoise.denoiser import load_denoiser

    denoiser = load_denoiser(_existing(run, name))
    return denoiser.channels, denoiser.denoise_batch


def _saved_model(run: Path) -> tuple[int, Denoise]:
    """Return the number of channels of the newest SavedModel, and a function that runs it."""
    import tensorflow as tf

    folder = _existing(run, "saved_model")
    versions = [path for path in folder.iterdir() if path.name.isdecimal()]
    newest = max(versions, key=lambda path: int(path.name), default=folder / "1")
    try:
        signature = tf.saved_model.load(str(newest)).signatures["serving_default"]
    except (OSError, KeyError) as error:
        raise UserError(f"cannot load {newest}: {first_line(error)}") from None
    channels = signature.structured_input_signature[1]["noisy"].shape[-1]
    return channels, lambda noisy: run_in_batches(lambda batch: signature(noisy=tf.constant(batch))["denoised"], noisy)


def _existing(run: Path, name: str) -> Path:
    """Return the path of an artefact. Raises `UserError` if it is missing."""
    if not os.path.exists(run / name):
        raise UserError(f"expected {name} in {run}, which is missing; python -m export {run} writes it")
    return run / name
