"""The proof: every artefact is run in a fresh process without Keras, and must give Keras's own pixels."""

import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np

from keras_dae.data.digits import render_digits
from keras_dae.errors import CheckFailed
from keras_dae.networks.geometry import AUTOENCODER

BATCHES = (1, 2, 7)
SIZES = ((28, 28), (20, 20), (64, 48), (37, 50), (17, 17), (5, 3), (1, 1))
KINDS = ("noise", "digits", "zeros", "ones")
TOLERANCE = 1e-5  # of any pixel, on the [0, 1] scale
PNG_TOLERANCE = 1  # of 255: a value between two levels may go to either
INT8_TOLERANCE = 0.1  # root mean square of a batch, on the [0, 1] scale, where it is not known what it was
INT8_SLACK = 0.01  # of the root mean square, for another machine's arithmetic
PACKAGES = {  # whose versions the proof holds for, besides Keras's and NumPy's
    "saved_model": ("tensorflow",),
    "onnx": ("onnx", "onnxruntime"),
    "int8": ("onnx", "onnxruntime"),
    "litert": ("tensorflow", "ai-edge-litert"),
}
INT8_KINDS = ("digits", "zeros")  # 8 bits clip what calibration never saw, such as random and all-white images


class ParityError(CheckFailed):
    """An artefact that does not compute what the Keras model does; exit status 1."""


def verify(model, artefacts, int8_tolerance=INT8_TOLERANCE):
    """Run artefacts and compare them with `model`; return what parity.json holds: an entry for each.

    Args:
        model: the Keras model.
        artefacts: `saved_model`, `onnx`, `int8` or `litert` -> path.
        int8_tolerance: root mean square error that 8 bits may make on digits. How much is right depends on what the
            network was trained on: what it loses on its own images is measured beside this, see `export.export_run`.

    Raises:
        ParityError: an output that differs, has a wrong shape, or holds NaN; says which, where, and by how much.
    """
    inputs = parity_inputs(model.input_shape[-1])
    expected = {name: reference(model, noisy) for name, noisy in inputs.items()}
    entries, problems = {}, []
    for kind, path in artefacts.items():
        outputs = run_in_fresh_process(path, inputs)
        entry, wrong = (
            check_int8(outputs, expected, int8_tolerance) if kind == "int8" else check_float(outputs, expected)
        )
        if kind == "saved_model":
            png_entry, png_wrong = check_png(outputs, inputs, model)
            entry, wrong = entry | png_entry, wrong + png_wrong
        problems += [f"{Path(path).name}: {problem}" for problem in wrong]
        entries[kind] = entry | {
            "batches": list(BATCHES),
            "sizes": [f"{height}×{width}" for height, width in SIZES],
            "images": list(KINDS),
            "versions": {package: version(package) for package in ("keras", "numpy", *PACKAGES[kind])},
        }
    if problems:
        shown = "; ".join(problems[:3]) + (f"; and {len(problems) - 3} more" if len(problems) > 3 else "")
        raise ParityError(f"the export does not compute what Keras does: {shown}")
    return entries


def check_float(outputs, expected):
    """Compare pixel by pixel; return an entry of parity.json, and what is wrong, in words."""
    errors, problems = compare(outputs, expected, TOLERANCE)
    return {"max_abs_error": max(errors), "tolerance": TOLERANCE}, problems


def check_png(outputs, inputs, model):
    """Compare what `denoise_image` gave for the 8-bit images; otherwise like `check_float`."""
    rounded = {name: np.rint(255 * noisy).astype(np.float32) / 255 for name, noisy in inputs.items()}
    expected = {f"png:{name}": np.rint(255 * reference(model, noisy)) for name, noisy in rounded.items()}
    errors, problems = compare(outputs, expected, PNG_TOLERANCE)
    return {"png_max_abs_error": max(errors), "png_tolerance": PNG_TOLERANCE}, problems


def check_int8(outputs, expected, tolerance):
    """Check that all are numbers within 1 of Keras, and close where calibration has been; else like `check_float`."""
    errors, problems = compare(outputs, expected, tolerance=1)
    judged = {name: right for name, right in expected.items() if name.startswith(INT8_KINDS)}
    rms, rms_problems = compare(outputs, judged, tolerance, lambda error: np.sqrt(np.mean(error**2)))
    entry = {"max_abs_error": max(errors), "max_rms_error": max(rms), "tolerance": tolerance}
    return entry, problems + [problem for problem in rms_problems if problem not in problems]


def compare(outputs, expected, tolerance, measure=np.max):
    """Return a measure of each case's absolute errors, and what is wrong, in words."""
    errors, problems = [0.0], []
    for name, right in expected.items():
        got = outputs.get(name)
        if got is None or got.shape != right.shape:
            problems.append(f"{name}: expected shape {right.shape}, got {None if got is None else got.shape}")
            continue
        error = float(measure(np.abs(got.astype(np.float64) - right)))
        errors.append(error)
        if not error <= tolerance:  # also for NaN
            problems.append(f"{name}: differs by {error:.3g}, more than {tolerance:g}")
    return errors, problems


def parity_inputs(channels):
    """Return name -> noisy batch, float32 `(batch, height, width, channels)`, for every batch, size and kind."""
    random = np.random.default_rng(0)
    digits = render_digits(64, seed=0)[0].reshape(8, 8, 28, 28).transpose(0, 2, 1, 3).reshape(224, 224) / 255
    inputs = {}
    for batch in BATCHES:
        for height, width in SIZES:
            shape = (batch, height, width, channels)
            corners = random.integers(0, (224 - height, 224 - width), (batch, 2))
            made = {
                "noise": random.random(shape),
                "digits": np.stack([digits[y : y + height, x : x + width, None] for y, x in corners])
                * np.ones(channels),
                "zeros": np.zeros(shape),
                "ones": np.ones(shape),
            }
            for kind in KINDS:
                inputs[f"{kind} {batch}×{height}×{width}"] = np.broadcast_to(made[kind], shape).astype(np.float32)
    return inputs


def reference(model, noisy):
    """Return the Keras model's output for images of any size: mirrored up to a size it takes, and cropped."""
    height, width = noisy.shape[1:3]
    rows, columns = (mirrored(size) for size in (height, width))
    return np.asarray(model(noisy[:, rows][:, :, columns]))[:, :height, :width]


def mirrored(size):
    """Return the rows of an image of `size` rows that continue it by reflection to a size that the network takes.

    Written apart from `export.graph.mirrored`, which it checks: back and forth is listed here, not computed.
    """
    back_and_forth = [*range(size), *range(size - 2, 0, -1)]
    padded = AUTOENCODER.padded_size(size)
    return [back_and_forth[row % len(back_and_forth)] for row in range(padded)]


def run_in_fresh_process(path, inputs):
    """Return the outputs of an artefact for `inputs`, both name -> array, from a Python process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        files = [str(Path(folder, name)) for name in ("inputs.npz", "outputs.npz")]
        np.savez(files[0], **inputs)
        command = [sys.executable, "-P", Path(__file__).with_name("consumer.py"), path, *files]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise ParityError(f"{Path(path).name} does not run: {last}")
        with np.load(files[1], allow_pickle=False) as outputs:
            return dict(outputs)
