"""Export a run: build every format apart, prove it, and only then put it into the run folder."""

import hashlib
import os
import shutil
import sys
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from export.parity.check import INT8_SLACK, INT8_TOLERANCE, ParityError, verify
from keras_dae import __version__
from keras_dae._util.atomic import locked, scratch_folder, sync
from keras_dae._util.batches import run_in_batches
from keras_dae._util.json_files import expecting, read_json, write_json
from keras_dae.config import TrainConfig
from keras_dae.data.load import load_dataset
from keras_dae.errors import UserError, first_line
from keras_dae.report.model_card import write_model_card
from keras_dae.runs.folder import load_config

FILES = {"saved_model": "saved_model", "onnx": "model.onnx", "int8": "model.int8.onnx", "litert": "model.tflite"}
FORMATS = tuple(FILES)
DEFAULT_FORMATS = ("saved_model", "onnx", "int8")
CALIBRATION_BATCHES = 8
INT8_LOSS = 0.1  # dB of PSNR that 8 bits may cost


def export_run(run, output_dir=None, formats=None, dataset=None):
    """Write the exports of a run folder, or of a .keras file; return their paths, format -> path.

    `saved_model/<n>`, `model.onnx`, `model.int8.onnx`, `model.tflite` and `parity.json` go into the run folder, or
    into `output_dir`, each whole or not at all. When one fails its proof, nothing is written and what is there stays;
    when only 8 bits cost more than INT8_LOSS, the others are written.

    Args:
        run: run folder with model.keras, or a .keras file.
        output_dir: where to write; None for the run folder.
        formats: some of FORMATS; None for DEFAULT_FORMATS, int8 then being left out with a note where it costs too
            much.
        dataset: `DatasetSplits` that fixes the ranges of `int8` and measures its loss; None for the run's own images,
            or the built-in digits where a run has none (a .keras file, imported weights).

    Raises:
        UserError: no such model, images or format, a package that a format needs is missing, or the folder cannot be
            written.
        ParityError: an artefact does not compute what Keras does, or 8 bits that were asked for cost too much.
    """
    from keras_dae.networks.keras_file import load_model
    from keras_dae.torch_weights import to_state_dict

    asked, formats = formats, tuple(dict.fromkeys(formats or DEFAULT_FORMATS))
    _check_known(formats)
    _check_installed(formats)
    run = Path(run)
    if output_dir is None and os.path.isfile(run):
        raise UserError(f"expected --output-dir with a .keras file, got {run} alone")
    target = run if output_dir is None else Path(output_dir)
    model = load_model(run / "model.keras" if os.path.isdir(run) else run)
    to_state_dict(model)  # raises if it is another network
    config = _config_of(run)
    with locked(target), _work_folder(target) as work:
        artefacts, int8 = _build(model, work, formats, run, config, dataset)
        entries = verify(model, artefacts, int8_tolerance=1.0)  # its measure is what it loses on the run's own images
        costly = int8 is not None and int8["psnr_lost_db"] > INT8_LOSS
        if costly:
            del artefacts["int8"], entries["int8"]
        elif int8:
            entries["int8"] |= int8
        placed = _put_in_place(artefacts, entries, target)
        write_model_card(target)
    if costly:
        loss = (
            f"int8 loses {int8['psnr_lost_db']:.2f} dB of PSNR on {int8['test_images']} test images, more than "
            f"{INT8_LOSS} dB, and was left out; exported: {', '.join(placed) or 'nothing'}"
        )
        if asked:
            raise ParityError(loss)
        print(f"note: {loss}", file=sys.stderr)
    return placed


def check_run(run, formats=None):
    """Prove the artefacts in a run folder once more; return `(entries, paths)`, see `verify`.

    Raises:
        UserError: no run or format, an artefact that was asked for is not there, or none, or a package that one needs.
        ParityError: an artefact does not compute what model.keras does.
    """
    from export.to_saved_model import next_version
    from keras_dae.networks.keras_file import load_model

    _check_known(formats or ())
    run = Path(run)
    newest = str(next_version(run / FILES["saved_model"]) - 1)
    paths = {name: run / FILES[name] / (newest if name == "saved_model" else "") for name in formats or FORMATS}
    missing = [name for name, path in paths.items() if not path.exists()]
    if missing and (formats or len(missing) == len(paths)):
        names = ", no ".join(FILES[name] for name in missing)
        raise UserError(f"expected exports in {run}, found no {names}; python -m export {run} makes them")
    paths = {name: path for name, path in paths.items() if name not in missing}
    _check_installed(paths)
    return verify(load_model(run / "model.keras"), paths, int8_tolerance(run)), paths


def int8_tolerance(run):
    """Return how far 8 bits may be from Keras: as they were when what they lose was measured. Raises `UserError`."""
    if not (run / "parity.json").is_file():
        return INT8_TOLERANCE
    proof = read_json(run / "parity.json")
    with expecting(run / "parity.json"):
        before = proof.get("int8", {}).get("max_rms_error")
        return INT8_TOLERANCE if before is None else before + INT8_SLACK


def print_proof(folder, paths, entries=None):
    """Print a line for each artefact: how close to Keras it is. `entries` are parity.json's if they are not given."""
    entries = entries or read_json(Path(folder, "parity.json"))
    for name, path in paths.items():
        entry, path = entries[name], path.relative_to(folder)
        if "psnr_lost_db" in entry:
            print(f"{path}: PSNR {entry['psnr_lost_db']:.3f} dB below the float model's")
        elif name == "int8":
            print(f"{path}: within {entry['max_rms_error']:.2g} (root mean square) of Keras on digits")
        else:
            print(f"{path}: equals Keras within {entry['max_abs_error']:.2g} ({entry['tolerance']:g} is allowed)")


def _check_known(formats):
    """Raise `UserError` when some of `formats` are none of FORMATS."""
    if unknown := [name for name in formats if name not in FORMATS]:
        raise UserError(f"expected formats of {', '.join(FORMATS)}; got {', '.join(unknown)}")


def _check_installed(formats):
    """Raise `UserError` when LiteRT is to run, and its package is missing."""
    if "litert" in formats and not find_spec("ai_edge_litert"):
        raise UserError("litert needs the package ai-edge-litert: pip install 'keras_dae[litert]'")


def _config_of(run):
    """Return the config that a run was trained with, or None."""
    file = run / "config.json"
    return load_config(file) if file.is_file() and "config" in read_json(file) else None


@contextmanager
def _work_folder(target):
    """Yield a scratch folder in `target`, on the disk of the artefacts-to-be. The caller holds the lock of `target`."""
    from tensorflow.errors import OpError

    for stale in target.glob(".export-*"):  # of version 0.1.0, killed
        shutil.rmtree(stale, ignore_errors=True)
    try:
        with scratch_folder(target / ".export") as work:
            yield work
    except OpError as error:  # TensorFlow writes the SavedModel's variables
        raise UserError(f"cannot write into {target}: {first_line(error.message)}") from error


def _build(model, work, formats, run, config, dataset):
    """Write the artefacts into `work`; return format -> path, and what 8 bits cost (None without int8)."""
    from export.to_onnx import export_onnx

    metadata = describe(run)
    paths = {name: work / FILES[name] for name in formats}
    if "saved_model" in formats:
        from export.to_saved_model import export_saved_model

        export_saved_model(model, paths["saved_model"])
    if "litert" in formats:
        from export.to_litert import export_litert

        export_litert(model, paths["litert"])
    float_path = paths.get("onnx", work / FILES["onnx"])
    if {"onnx", "int8"} & set(formats):
        export_onnx(model, float_path, metadata)
    int8 = None
    if "int8" in formats:
        from export.to_int8 import export_int8

        noisy, test, config = _images(config, dataset, model.input_shape[-1])
        export_int8(float_path, paths["int8"], noisy)
        int8 = _int8_loss(float_path, paths["int8"], test, config)
    return paths, int8


def describe(run):
    """Return what a run's files say of it, str -> str, for ONNX's `metadata_props`."""
    about = {"version": f"keras_dae {__version__}", "licence": "Apache-2.0"}
    if (run / "metrics.json").is_file():
        metrics = read_json(run / "metrics.json")
        with expecting(run / "metrics.json"):
            about |= {
                "dataset": metrics["dataset"],
                "noise": ", ".join(metrics["noise"]),
                "noise_factor": " to ".join(f"{factor:g}" for factor in metrics["noise_factor"] or []),
                "psnr_db": f"{metrics['test']['psnr']:.3f}",
                "psnr_noisy_db": f"{metrics['noisy']['psnr']:.3f}",
            }
    return {key: value for key, value in about.items() if value}


def _images(config, dataset, channels):
    """Return noisy training images for calibration, the test images, and the config of their noise."""
    from keras_dae.data.batches import training_batches

    config = config or TrainConfig(dataset="digits")
    if channels != config.channels:
        raise UserError(
            f"expected images of {channels} channels for int8, got {config.channels}; leave int8 out of --formats"
        )
    dataset = dataset or load_dataset(config)
    batches = training_batches(dataset.train, config).take(CALIBRATION_BATCHES)
    noisy = np.concatenate([batch.numpy() for batch, _ in batches])
    return noisy, dataset.test, config


def _int8_loss(float_path, int8_path, test, config):
    """Measure both ONNX files on the noisy test images; return PSNRs and the loss, in dB."""
    import onnxruntime

    from keras_dae.data.batches import evaluation_images
    from keras_dae.metrics import mean_metrics

    noisy, clean = evaluation_images(test, config)
    psnr = {}
    for path in (float_path, int8_path):
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        denoised = run_in_batches(lambda part, session=session: session.run(None, {"noisy": part})[0], noisy)
        psnr[path] = mean_metrics(clean, denoised, test.image_index)["psnr"]
    return {
        "psnr_db": psnr[int8_path],
        "psnr_lost_db": psnr[float_path] - psnr[int8_path],
        "test_images": test.count()["images"],
        "bytes": os.path.getsize(int8_path),
    }


def _put_in_place(artefacts, entries, target):
    """Rename proven artefacts into `target`, write parity.json and note the cost of int8; return their paths."""
    from export.to_saved_model import next_version

    placed = {}
    for name, path in artefacts.items():
        if path.is_file():
            entries[name] |= {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        place = target / FILES[name]
        if name == "saved_model":
            place.mkdir(exist_ok=True)
            place = place / str(next_version(place))
        os.replace(path, place)
        placed[name] = place
    sync(target)
    before = read_json(target / "parity.json") if (target / "parity.json").is_file() else {}
    write_json(target / "parity.json", before | entries)
    if "int8" in entries and (target / "metrics.json").is_file():
        int8 = {name: entries["int8"][name] for name in ("psnr_db", "psnr_lost_db", "bytes")}
        write_json(target / "metrics.json", read_json(target / "metrics.json") | {"int8": int8})
    return placed
