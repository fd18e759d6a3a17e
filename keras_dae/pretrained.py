"""The trained models that come with the package. Imports neither TensorFlow nor NumPy."""

import os
from pathlib import Path

from keras_dae.errors import UserError
from keras_dae.runs.metrics_file import read_metrics

MODEL_NAMES = ("mnist", "mnist-blind")
PACKAGE = Path(__file__).parent
SAVED_MODELS = (PACKAGE / "saved_models", PACKAGE.parent / "saved_models")  # of an installed package; of a checkout


def model_folder(name: str) -> Path:
    """Return the run folder of a model that comes with the package.

    Raises:
        UserError: no model has that name.

    Example:
        >>> model_folder("mnist").name
        'mnist'
    """
    for folder in SAVED_MODELS:
        if name in MODEL_NAMES and os.path.isfile(folder / name / "model.onnx"):
            return folder / name
    raise UserError(f"expected the name of a shipped model, {' or '.join(MODEL_NAMES)}, got {name!r}")


def find_model(model: str | os.PathLike) -> Path:
    """Return the path that the user means by `model`: a run folder, a file, or the name of a shipped model.

    A run folder or file of the user comes before a shipped model of the same name. The path is not checked otherwise.
    """
    path = Path(model)
    if str(model) in MODEL_NAMES and not os.path.isfile(path) and not os.path.isfile(path / "model.onnx"):
        return model_folder(str(model))
    return path


def describe_model(name: str) -> str:
    """Return a line about a shipped model: its noise, PSNR (dB) and SSIM on its test images, size (MB) and folder.

    Raises:
        UserError: no model has that name.
    """
    run = model_folder(name)
    metrics = read_metrics(run / "metrics.json")
    return (
        f"{name}: {metrics.noise.describe()}; "
        f"its test images: {metrics.noisy.psnr:.2f} dB noisy, "
        f"{metrics.test.psnr:.2f} dB denoised, SSIM {metrics.test.ssim:.3f}; "
        f"{(run / 'model.onnx').stat().st_size / 1e6:.2f} MB; {run}"
    )
