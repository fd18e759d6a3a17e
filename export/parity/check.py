"""The parity check: every artefact runs in a fresh process without Keras, and must give the same pixels as Keras."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from export.parity import cases
from export.parity.cases import parity_inputs, reference
from keras_dae.errors import CheckFailed

if TYPE_CHECKING:
    import keras

Arrays = dict[str, np.ndarray]  # name of a case -> its batch

TOLERANCE = 1e-5  # maximum error of a pixel, on the [0, 1] scale
PNG_TOLERANCE = 1  # of 255: a value halfway between two levels may be rounded to either
INT8_TOLERANCE = 0.1  # root mean square error of a batch, on the [0, 1] scale, if parity.json has no earlier value
INT8_SLACK = 0.01  # how much the root mean square error may exceed that earlier value, on another machine
INT8_KINDS = ("digits", "zeros")
RUN_SECONDS = 600  # an artefact may take so long for all cases; usually it takes about ten seconds
RECORDED_PACKAGES = {  # format -> packages whose versions are recorded, besides Keras and NumPy
    "saved_model": ("tensorflow",),
    "onnx": ("onnx", "onnxruntime"),
    "int8": ("onnx", "onnxruntime"),
    "litert": ("tensorflow", "ai-edge-litert"),
}


class ParityError(CheckFailed):
    """An artefact does not compute what the Keras model computes. A command exits with status 1."""


def verify(
    model: "keras.Model", artefacts: Mapping[str, str | os.PathLike], int8_tolerance: float = INT8_TOLERANCE
) -> dict[str, dict]:
    """Run artefacts in fresh processes and compare their outputs with `model`.

    Args:
        model: the Keras model that was exported.
        artefacts: format -> path. Formats: `saved_model`, `onnx`, `int8`, `litert`.
        int8_tolerance: root mean square error that an 8-bit model may have on digits, on the [0, 1] scale. How much
            is acceptable depends on the images that the network was trained on. So `export.export_run` judges an 8-bit
            model by the PSNR that it loses on those, and the tolerance is what it measured on digits.

    Returns:
        format -> entry, as parity.json holds them: the errors and tolerances, the cases, and the versions of packages.

    Raises:
        ParityError: an output differs, has a wrong shape or holds NaN, or an artefact does not run. The message names
            the artefact and the case, and says by how much the output differs.

    Example::

        from export import export_onnx, verify

        export_onnx(model, "model.onnx")
        verify(model, {"onnx": "model.onnx"})["onnx"]["max_abs_error"]  # such as 6e-7
    """
    inputs = parity_inputs(model.input_shape[-1])
    expected = {name: reference(model, noisy) for name, noisy in inputs.items()}
    entries, problems = {}, []
    for kind, path in artefacts.items():
        outputs = run_in_fresh_process(path, inputs)
        if kind == "int8":
            entry, found = check_int8(outputs, expected, int8_tolerance)
        else:
            entry, found = check_float(outputs, expected)
        if kind == "saved_model":
            png_entry, png_found = check_png(outputs, inputs, model)
            entry, found = entry | png_entry, found + png_found
        problems += [f"{Path(path).name}: {problem}" for problem in found]
        entries[kind] = entry | {
            "batches": list(cases.BATCH_SIZES),
            "sizes": [f"{height}×{width}" for height, width in cases.IMAGE_SIZES],
            "images": list(cases.IMAGE_KINDS),
            "versions": {package: version(package) for package in ("keras", "numpy", *RECORDED_PACKAGES[kind])},
        }
    if problems:
        shown = "; ".join(problems[:3]) + (f"; and {len(problems) - 3} more" if len(problems) > 3 else "")
        raise ParityError(f"the export does not compute what Keras does: {shown}")
    return entries


def check_float(outputs: Arrays, expected: Arrays) -> tuple[dict, list[str]]:
    """Compare every pixel. Return the errors, as an entry of parity.json, and the problems, in words."""
    errors, problems = compare(outputs, expected, TOLERANCE)
    return {"max_abs_error": max(errors), "tolerance": TOLERANCE}, problems


def check_png(outputs: Arrays, inputs: Arrays, model: "keras.Model") -> tuple[dict, list[str]]:
    """Compare the 8-bit images that `denoise_image` gave, `png:<name>` in `outputs`. Return the same as `check_float`.

    The signature reads the inputs from PNG files, so here, too, they are rounded to 8 bits first.
    """
    rounded = {name: np.rint(255 * noisy).astype(np.float32) / 255 for name, noisy in inputs.items()}
    expected = {f"png:{name}": np.rint(255 * reference(model, noisy)) for name, noisy in rounded.items()}
    errors, problems = compare(outputs, expected, PNG_TOLERANCE)
    return {"png_max_abs_error": max(errors), "png_tolerance": PNG_TOLERANCE}, problems


def check_int8(outputs: Arrays, expected: Arrays, tolerance: float) -> tuple[dict, list[str]]:
    """Check that pixels are at most 1 from Keras and not NaN, and `int8_cases` close. Else like `check_float`."""
    errors, problems = compare(outputs, expected, tolerance=1)
    rms_errors, rms_problems = compare(outputs, int8_cases(expected), tolerance, rms)
    entry = {"max_abs_error": max(errors), "max_rms_error": max(rms_errors), "tolerance": tolerance}
    return entry, problems + [problem for problem in rms_problems if problem not in problems]


def int8_cases(arrays: Arrays) -> Arrays:
    """Return the cases that an 8-bit model must be close on.

    8 bits clip values that calibration never saw, as in random and all-white images.
    """
    return {name: array for name, array in arrays.items() if name.startswith(INT8_KINDS)}


def rms(error: np.ndarray) -> float:
    """Return the root of the mean of the squares."""
    return float(np.sqrt(np.mean(np.square(error, dtype=np.float64))))


def compare(
    outputs: Arrays, expected: Arrays, tolerance: float, measure: Callable[[np.ndarray], float] = np.max
) -> tuple[list[float], list[str]]:
    """Compare the outputs of all cases.

    Args:
        outputs: what an artefact gave. Other cases than those in `expected` are ignored.
        expected: what Keras gave.
        tolerance: the largest error that is accepted.
        measure: function from the absolute errors of a batch to its error.

    Returns:
        The errors of the cases, and the problems, in words. A case without an output, or whose output has a wrong
        shape, is a problem and has no error.

    Example:
        >>> compare({"a": np.array([1.0, 2.5])}, {"a": np.array([1.0, 2.0])}, tolerance=0.1)
        ([0.0, 0.5], ['a: differs by 0.5, more than 0.1'])
    """
    errors, problems = [0.0], []
    for name, right in expected.items():
        got = outputs.get(name)
        if got is None or got.shape != right.shape:
            problems.append(f"{name}: expected shape {right.shape}, got {None if got is None else got.shape}")
            continue
        error = float(measure(np.abs(got.astype(np.float64) - right)))
        errors.append(error)
        if not error <= tolerance:  # true for NaN as well
            problems.append(f"{name}: differs by {error:.3g}, more than {tolerance:g}")
    return errors, problems


def run_in_fresh_process(path: str | os.PathLike, inputs: Arrays) -> Arrays:
    """Run an artefact on `inputs` in a new Python process, by consumer.py, and return its outputs under the same names.

    Raises:
        ParityError: the artefact does not run, or not within RUN_SECONDS.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = [str(Path(folder, name)) for name in ("inputs.npz", "outputs.npz")]
        np.savez(files[0], **inputs)  # type: ignore[arg-type]  # no input is called allow_pickle
        command = [sys.executable, "-P", str(Path(__file__).with_name("consumer.py")), os.fspath(path), *files]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_SECONDS)
        except subprocess.TimeoutExpired:
            raise ParityError(
                f"{Path(path).name} did not finish the parity check within {RUN_SECONDS} seconds; "
                "is the machine busy? Try again"
            ) from None
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise ParityError(f"{Path(path).name} does not run: {last}")
        with np.load(files[1], allow_pickle=False) as outputs:
            return dict(outputs)
