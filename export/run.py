"""Export a run: build every format in a scratch folder, verify it, and only then move it into the run folder."""

import dataclasses
import hashlib
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from export.artefacts import ARTEFACT_NAMES, DEFAULT_FORMATS, check_formats, check_installed
from export.int8_loss import MAX_INT8_LOSS, quantize_and_measure
from export.parity.check import INT8_TOLERANCE, ParityError, verify
from export.publish import publish
from keras_dae import __version__
from keras_dae._util.atomic import locked, scratch_folder
from keras_dae._util.json_files import expecting, read_json, write_json
from keras_dae._util.process_state import unchanged_process_state
from keras_dae.config import TrainConfig
from keras_dae.data.splits import DatasetSplits
from keras_dae.errors import UserError, first_line
from keras_dae.networks import network_name
from keras_dae.noise_names import describe_level
from keras_dae.report.model_card import write_model_card
from keras_dae.runs.folder import load_config
from keras_dae.runs.metrics_file import read_metrics

if TYPE_CHECKING:
    import keras
    import numpy as np


@unchanged_process_state()
def export_run(
    run: str | os.PathLike,
    output_dir: str | os.PathLike | None = None,
    formats: Iterable[str] | None = None,
    dataset: DatasetSplits | None = None,
) -> dict[str, Path]:
    """Export a run folder or a .keras file, verify the exports, and return their paths, format -> path.

    `saved_model/<n>`, `model.onnx`, `model.int8.onnx`, `model.tflite` and `parity.json` go into the run folder, or
    into `output_dir`. Each is written atomically. If one fails the parity check, nothing is written, and existing
    files are left untouched. If the 8-bit model loses more than MAX_INT8_LOSS, it is left out and the others are
    written.

    Args:
        run: run folder with model.keras, or a .keras file.
        output_dir: where to write; None for the run folder.
        formats: some of `export.artefacts.EXPORT_FORMATS`; None for DEFAULT_FORMATS. With None, an 8-bit model that
            loses too much is left out with a note; if it was asked for by name, `ParityError` is raised.
        dataset: images for `int8`. The training images calibrate it, and the test images show what it loses. None for
            the images of the run. If the run has none (a .keras file, imported weights), the built-in digits are used
            for the grey autoencoder; for other networks, 8 bits are left out, with a note.

    Raises:
        UserError: the model or the images are missing, a format is unknown, a package that a format needs is missing,
            or the folder cannot be written.
        ParityError: an artefact does not compute what Keras computes, or an 8-bit model that was asked for by name
            loses too much.

    Example::

        from export import export_run

        paths = export_run("saved_models/scans", formats=["saved_model", "onnx"])
        paths["onnx"]  # saved_models/scans/model.onnx
    """
    from keras_dae.networks.keras_file import load_model
    from keras_dae.torch_weights import to_state_dict

    int8_is_optional = not formats
    chosen = tuple(dict.fromkeys(formats or DEFAULT_FORMATS))
    check_formats(chosen)
    check_installed(chosen)
    run = Path(run)
    if output_dir is None and os.path.isfile(run):
        raise UserError(f"expected --output-dir with a .keras file, got {run} alone")
    target = run if output_dir is None else Path(output_dir)
    model = load_model(run / "model.keras" if os.path.isdir(run) else run)
    weights = _sha256_of_weights(to_state_dict(model))  # which raises if it is another network, or damaged
    config = _training_config(run)
    if "int8" in chosen and not (config or dataset or _suits_digits(model)):
        reason = f"int8 needs the images that the model was trained on, and {run} does not name them"
        if not int8_is_optional:
            raise UserError(f"{reason}; leave int8 out of --formats")
        print(f"note: {reason}; it is left out", file=sys.stderr)
        chosen = tuple(name for name in chosen if name != "int8")

    with locked(target), _work_folder(target) as work:
        artefacts = _build(model, work, chosen, onnx_metadata(run))
        int8_loss = None
        if "int8" in chosen:
            float_path = work / ARTEFACT_NAMES["onnx"]
            int8_loss = quantize_and_measure(float_path, artefacts["int8"], model.input_shape[-1], config, dataset)
        int8_is_left_out = int8_loss is not None and int8_loss.is_too_high
        if int8_is_left_out:
            del artefacts["int8"]
        entries = verify(model, artefacts, int8_loss.parity_tolerance if int8_loss else INT8_TOLERANCE)
        for entry in entries.values():
            entry["weights_sha256"] = weights
        if int8_loss and "int8" in entries:
            entries["int8"] |= dataclasses.asdict(int8_loss)
        placed = publish(artefacts, entries, target)
        if "int8" in placed:
            _record_int8_loss(entries["int8"], target)
        write_model_card(target)

    if int8_loss and int8_is_left_out:
        message = (
            f"int8 loses {int8_loss.psnr_lost_db:.2f} dB of PSNR on {int8_loss.test_images} test images, more than "
            f"{MAX_INT8_LOSS} dB, and was left out; exported: {', '.join(placed) or 'nothing'}"
        )
        if not int8_is_optional:
            raise ParityError(message)
        print(f"note: {message}", file=sys.stderr)
    return placed


def _sha256_of_weights(state: Mapping[str, "np.ndarray"]) -> str:
    """Return the SHA-256 of the names and float32 values of all weights, in hexadecimal."""
    digest = hashlib.sha256()
    for name, value in state.items():
        digest.update(name.encode() + value.tobytes())
    return digest.hexdigest()


def _suits_digits(model: "keras.Model") -> bool:
    """Return whether the built-in digits can calibrate a model of which it is not known what it was trained on."""
    return network_name(model) == "autoencoder" and model.input_shape[-1] == 1


def print_parity(
    folder: str | os.PathLike, paths: Mapping[str, Path], entries: Mapping[str, dict] | None = None
) -> None:
    """Print one line for each artefact: how close it is to Keras.

    Args:
        folder: the folder that holds the artefacts.
        paths: format -> path of the artefact, in `folder`.
        entries: what `verify` returned; None for the content of the folder's parity.json.
    """
    entries = entries or read_json(Path(folder, "parity.json"))
    for name, path in paths.items():
        entry, shown = entries[name], path.relative_to(folder)
        if "psnr_lost_db" in entry:
            print(f"{shown}: PSNR {entry['psnr_lost_db']:.3f} dB below the float model's")
        elif name == "int8":
            print(f"{shown}: within {entry['max_rms_error']:.2g} (root mean square) of Keras on digits")
        else:
            print(f"{shown}: equals Keras within {entry['max_abs_error']:.2g} ({entry['tolerance']:g} is allowed)")


def onnx_metadata(run: Path) -> dict[str, str]:
    """Return what ONNX's `metadata_props` say about a run: how it was trained and how good it is.

    Args:
        run: run folder. Without a metrics.json in it, only the version and the licence are known.
    """
    metadata = {"version": f"keras_dae {__version__}", "licence": "Apache-2.0"}
    if (run / "metrics.json").is_file():
        metrics = read_metrics(run / "metrics.json")
        with expecting(run / "metrics.json"):
            metadata |= {
                "dataset": metrics.dataset,
                "noise": ", ".join(metrics.noise.noise),
                "noise_factor": describe_level(metrics.noise.noise_factor),
                "psnr_db": f"{metrics.test.psnr:.3f}",
                "psnr_noisy_db": f"{metrics.noisy.psnr:.3f}",
            }
    return {key: value for key, value in (metadata | _training_images(run)).items() if value}


def _training_images(run: Path) -> dict[str, str]:
    """Return what `keras_dae.denoise.trained_on` reads, from the config.json of a run. Older runs do not say it."""
    config = _training_config(run)
    if config is None:
        return {}
    described = {} if config.clip or config.has_pairs else {"clip": "false"}
    with expecting(run / "config.json"):
        images = read_json(run / "config.json").get("dataset", {})
        if "brightness" in images:
            height, width, _ = images["image_shape"]
            described["image_size"] = f"{height}×{width}" if images["brightness"] else "patches"
            described["brightness"] = " to ".join(f"{value:.3f}" for value in images["brightness"] or ())
    return described


def _training_config(run: Path) -> TrainConfig | None:
    """Return the config that a run was trained with, or None if the run has none."""
    file = run / "config.json"
    return load_config(file) if file.is_file() and "config" in read_json(file) else None


@contextmanager
def _work_folder(target: Path) -> Iterator[Path]:
    """Yield a scratch folder in `target`, on the disk that the artefacts are for. The caller holds the lock."""
    from tensorflow.errors import OpError

    for stale in target.glob(".export-*"):  # left behind when an export by version 0.1.0 was killed
        shutil.rmtree(stale, ignore_errors=True)
    try:
        with scratch_folder(target / ".export") as work:
            yield work
    except OpError as error:  # TensorFlow writes the SavedModel's variables
        raise UserError(f"cannot write into {target}: {first_line(error.message)}") from error


def _build(model: "keras.Model", work: Path, formats: tuple[str, ...], metadata: dict[str, str]) -> dict[str, Path]:
    """Write all formats but int8 into `work`. Return the paths of all, int8 included, format -> path.

    With int8, model.onnx is written in any case, because int8 is made from it.
    """
    paths = {name: work / ARTEFACT_NAMES[name] for name in formats}
    if "saved_model" in formats:
        from export.to_saved_model import export_saved_model

        export_saved_model(model, paths["saved_model"])
    if "litert" in formats:
        from export.to_litert import export_litert

        export_litert(model, paths["litert"])
    if "onnx" in formats or "int8" in formats:
        from export.to_onnx import export_onnx

        export_onnx(model, work / ARTEFACT_NAMES["onnx"], metadata)
    return paths


def _record_int8_loss(entry: dict, target: Path) -> None:
    """Add the loss of int8 to metrics.json, if the run has one."""
    if (target / "metrics.json").is_file():
        int8 = {name: entry[name] for name in ("psnr_db", "psnr_lost_db", "bytes")}
        write_json(target / "metrics.json", read_json(target / "metrics.json") | {"int8": int8})
