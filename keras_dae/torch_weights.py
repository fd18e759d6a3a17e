"""Weights of the PyTorch original, in and out: `python -m keras_dae.torch_weights import | export`.

The original's state_dict has the keys `encoder.0.weight` … `decoder.4.bias`, float32. Conv2d kernels are
(out, in, height, width) and ConvTranspose2d kernels (in, out, height, width); Keras has (height, width, in, out)
and (height, width, out, in), and ours are flipped too (see `keras_dae.networks.autoencoder`). Both ways only move
numbers, so a round trip is bit-identical.
"""

import argparse
import hashlib
import os
import pickle
import sys
import zipfile
from pathlib import Path

import numpy as np

from keras_dae._util.archives import UNREADABLE, check_archive
from keras_dae._util.atomic import atomic_file, folder_to_replace, locked, staged_folder
from keras_dae._util.json_files import write_json
from keras_dae.errors import UserError, first_line, printable, run_command
from keras_dae.networks.geometry import AUTOENCODER
from keras_dae.runs.folder import RUN_FORMAT

MODULES = tuple(layer.torch_name for layer in AUTOENCODER.layers)
SUFFIXES = (".safetensors", ".pt", ".pth")


def expected_shapes(channels):
    """Return `{key: shape}` of the original's state_dict for images of `channels` channels."""
    shapes, inputs = {}, channels
    for layer in AUTOENCODER.layers:
        outputs = layer.filters or channels
        pair = (outputs, inputs) if layer.kind == "conv" else (inputs, outputs)
        shapes[f"{layer.torch_name}.weight"] = (*pair, layer.kernel, layer.kernel)
        shapes[f"{layer.torch_name}.bias"] = (outputs,)
        inputs = outputs
    return shapes


def load_state_dict(path):
    """Return a file's state_dict as `{key: float32 array}`, checked to be the original's.

    Args:
        path: `.safetensors`, which needs no torch, or `.pt` / `.pth`, which needs it; nothing in a file is executed.

    Raises:
        UserError: the file is missing, cut or of another kind, or its keys, shapes or types are not the original's.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise UserError(f"expected a file ending in {', '.join(SUFFIXES)}, got {path}")
    if not os.path.isfile(path):
        what = "a folder" if os.path.isdir(path) else "not there"
        raise UserError(f"expected a file of PyTorch weights, got {path}, which is {what}")
    state = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    _check(path, state)
    return state


def _read_safetensors(path):
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except (SafetensorError, *UNREADABLE) as error:
        raise UserError(f"cannot read {path} as safetensors: {error}") from None


def _read_torch(path):
    torch = _torch(path)
    try:
        if zipfile.is_zipfile(path):  # PyTorch does not check its checksums
            check_archive(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
        return {key: tensor.numpy() for key, tensor in state.items()}
    except (pickle.UnpicklingError, AttributeError, TypeError, ImportError) as error:
        raise UserError(
            f"{path} is not a plain state_dict, and nothing else is loaded, since it could run code; save it with "
            f"torch.save(model.state_dict(), ...): {first_line(error)}"
        ) from None
    except (*UNREADABLE, IndexError, AssertionError) as error:
        raise UserError(f"cannot read {path} as PyTorch weights: {first_line(error)}") from None


def _torch(path):
    try:
        import torch
    except ImportError:
        raise UserError(
            f"{path.suffix} files need PyTorch (pip install torch); or save the weights as .safetensors, which does not"
        ) from None
    return torch


def _check(path, state):
    channels = next((v.shape[1] for k, v in state.items() if k == "encoder.0.weight" and v.ndim == 4), 1)
    expected = expected_shapes(channels if channels in (1, 3) else 1)
    problems = [f"missing {key}" for key in expected if key not in state]
    problems += [f"extra {key}" for key in state if key not in expected]
    problems += [
        f"{key} has shape {state[key].shape}, expected {shape}"
        for key, shape in expected.items()
        if key in state and state[key].shape != shape
    ]
    problems += [f"{key} is {v.dtype}, expected float32" for key, v in state.items() if v.dtype != np.float32]
    problems += [
        f"{key} holds NaN or infinity" for key, v in state.items() if v.dtype.kind == "f" and not np.isfinite(v).all()
    ]
    if problems:
        raise UserError(f"{path} does not hold the denoising autoencoder's weights: {'; '.join(problems)}")


def from_state_dict(state):
    """Return the Keras model with the weights of a state_dict as `load_state_dict` gives it."""
    from keras_dae.networks.autoencoder import build_autoencoder

    model = build_autoencoder((None, None, state["encoder.0.weight"].shape[1]))
    weights = []
    for module in MODULES:
        weights += [state[f"{module}.weight"].transpose(2, 3, 1, 0)[::-1, ::-1], state[f"{module}.bias"]]
    model.set_weights(weights)
    return model


def to_state_dict(model):
    """Return a model's weights as the original's state_dict, `{key: float32 array}`.

    Raises:
        UserError: `model` is not this network.
    """
    weights = model.get_weights()
    if len(weights) != 2 * len(MODULES):
        raise UserError(f"expected a model with {2 * len(MODULES)} weights, got {len(weights)}: not this network")
    state = {}
    for module, kernel, bias in zip(MODULES, weights[::2], weights[1::2]):
        if kernel.ndim != 4:
            raise UserError(f"expected a kernel of 4 dimensions for {module}, got {kernel.shape}: not this network")
        state[f"{module}.weight"] = np.ascontiguousarray(kernel[::-1, ::-1].transpose(3, 2, 0, 1))
        state[f"{module}.bias"] = bias
    _check(getattr(model, "name", "the model"), state)
    return state


def save_state_dict(state, path):
    """Write a state_dict as `.safetensors`, or as `.pt` / `.pth` with torch; whole or not at all.

    Raises:
        UserError: an unknown ending, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        from safetensors.numpy import save_file

        with atomic_file(path) as temporary:
            save_file(state, temporary)
    elif path.suffix in SUFFIXES:
        torch = _torch(path)
        with atomic_file(path) as temporary:
            torch.save({key: torch.from_numpy(value) for key, value in state.items()}, temporary)
    else:
        raise UserError(f"expected a file ending in {', '.join(SUFFIXES)}, got {path}")


def import_weights(path, output_dir):
    """Make a run folder (config.json, model.keras) of a PyTorch file. Raises `UserError`; see `load_state_dict`."""
    state = load_state_dict(path)
    run = folder_to_replace(output_dir)
    for taken in (run, run.with_name(f"{run.name}.partial")):  # the latter of a training
        if os.path.lexists(taken):
            raise UserError(f"expected --output-dir to be a new folder, but {taken} is there already")
    from keras_dae.networks.keras_file import save_model

    imported = {
        "file": printable(Path(path).name),
        "sha256": hashlib.sha256(Path(path).read_bytes()).hexdigest(),
    }
    with locked(run), staged_folder(run) as folder:
        save_model(from_state_dict(state), folder / "model.keras")
        write_json(folder / "config.json", {"format": RUN_FORMAT, "imported": imported})


def export_weights(run, path, overwrite=False):
    """Write the weights of a run folder or a .keras file as a PyTorch file; one that is there only if `overwrite`.

    Raises:
        UserError: no such run, or no such network; the file is there already, or cannot be written.
    """
    from keras_dae.networks.keras_file import load_model

    if os.path.lexists(path) and not overwrite:
        raise UserError(f"{path} is there already; give --overwrite to replace it, or another name")
    file = Path(run, "model.keras") if os.path.isdir(run) else Path(run)
    save_state_dict(to_state_dict(load_model(file)), path)


def parser(prog="python -m keras_dae.torch_weights"):
    """Return the argument parser of the command."""
    parser = argparse.ArgumentParser(prog=prog, description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("import", help="PyTorch weights in, run folder out")
    command.add_argument("path", metavar="FILE", help="state_dict: .safetensors, .pt or .pth")
    command.add_argument("--output-dir", required=True, help="run folder to make")
    command.set_defaults(call=import_weights)
    command = commands.add_parser("export", help="run folder in, PyTorch weights out")
    command.add_argument("run", metavar="RUN", help="run folder or .keras file")
    command.add_argument("path", metavar="FILE", help="to write: .safetensors, .pt or .pth")
    command.add_argument("--overwrite", action="store_true", help="replace FILE if it is there")
    command.set_defaults(call=export_weights)
    return parser


def main(argv=None, prog="python -m keras_dae.torch_weights"):
    """Command line of `import_weights` and `export_weights`; returns the exit status."""
    options = vars(parser(prog).parse_args(argv))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    return run_command(options.pop("call"), **options)


if __name__ == "__main__":
    sys.exit(main())
