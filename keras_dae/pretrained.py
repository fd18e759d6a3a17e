"""The trained models that come with the package: found by name, and described in a line. Imports no TensorFlow."""

import os
from pathlib import Path

from keras_dae._util.json_files import read_json
from keras_dae.errors import UserError
from keras_dae.report.text import level_name, noise_name

NAMES = ("mnist", "mnist-blind")
HERE = Path(__file__).parent
FOLDERS = (HERE / "saved_models", HERE.parent / "saved_models")  # installed; in a checkout


def path(name):
    """Return the run folder of a model that comes with the package.

    Raises:
        UserError: there is none of that name.
    """
    for folder in FOLDERS:
        if name in NAMES and os.path.isfile(folder / name / "model.onnx"):
            return folder / name
    raise UserError(f"expected the name of a shipped model, {' or '.join(NAMES)}, got {name!r}")


def find(model):
    """Return the path of a run folder or file; if there is none and `model` is a shipped model's name, that one's."""
    own = Path(model)
    if str(model) in NAMES and not os.path.isfile(own) and not os.path.isfile(own / "model.onnx"):
        return path(str(model))
    return own


def describe(name):
    """Return a line on a shipped model, from its own files: noise, test PSNR and SSIM, size, folder."""
    run = path(name)
    metrics = read_json(run / "metrics.json")
    return (
        f"{name}: {noise_name(metrics)} of {level_name(metrics['noise_factor'])}; "
        f"its test images: {metrics['noisy']['psnr']:.2f} dB noisy, "
        f"{metrics['test']['psnr']:.2f} dB denoised, SSIM {metrics['test']['ssim']:.3f}; "
        f"{(run / 'model.onnx').stat().st_size / 1e6:.2f} MB; {run}"
    )
