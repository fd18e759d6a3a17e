"""Convert weights in PyTorch's form to a run and back: `python -m keras_dae.torch_weights import | export`.

The network `autoencoder` has the state_dict of the PyTorch original: the keys `encoder.0.weight` … `decoder.4.bias`,
all float32. The kernels of Conv2d are (out, in, height, width), those of ConvTranspose2d (in, out, height, width).
Keras has (height, width, in, out) and (height, width, out, in), and the kernels that are trained are also flipped (see
`keras_dae.networks.autoencoder`). Both conversions only move numbers, so a round trip is bitwise identical.

The network `unet` has the keys `head.weight` … `tail.weight`, in the same layouts, and no biases. The PyTorch module in
`benchmarks/torch_unet.py` takes them.
"""

import argparse
import hashlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from keras_dae._util.atomic import atomic_file, folder_to_replace, locked, staged_folder
from keras_dae._util.command import prepare_command
from keras_dae._util.json_files import write_json
from keras_dae.errors import UserError, printable, run_command
from keras_dae.networks import NETWORKS, build_network, network_name
from keras_dae.networks.torch_file import import_torch, read_state_dict
from keras_dae.runs.folder import RUN_FORMAT

if TYPE_CHECKING:
    import keras

TORCH_SUFFIXES = (".pt", ".pth", ".ckpt", ".bin")

StateDict = dict[str, np.ndarray]  # float32


def expected_shapes(channels: int, network: str = "autoencoder") -> dict[str, tuple[int, ...]]:
    """Return key -> shape of a network's state_dict for images of 1 or 3 channels.

    Example:
        >>> expected_shapes(1)["encoder.0.weight"]
        (16, 1, 3, 3)
    """
    shapes: dict[str, tuple[int, ...]] = {}
    inputs = channels
    for layer in NETWORKS[network].geometry.layers:
        outputs = layer.filters or channels
        pair = (outputs, inputs) if layer.kind == "conv" else (inputs, outputs)
        shapes[f"{layer.torch_name}.weight"] = (*pair, layer.kernel, layer.kernel)
        if layer.bias:
            shapes[f"{layer.torch_name}.bias"] = (outputs,)
        inputs = outputs
    return shapes


def load_state_dict(path: str | os.PathLike) -> StateDict:
    """Return the weights in a file as the state_dict of the network that they belong to, float32 arrays.

    No code in the file is run. The content decides what the file is, not its ending. Of a checkpoint, the dict with the
    weights is taken; prefixes such as `module.` are removed; half and bfloat16 become float32.

    Args:
        path: safetensors, or a file of `torch.save`, which needs torch to be installed.

    Raises:
        UserError: the file is missing, damaged or of another kind, or its keys, shapes or types are not a network's.

    Example::

        from keras_dae import load_state_dict

        load_state_dict("original.safetensors")["encoder.0.weight"].shape  # (16, 1, 3, 3)
    """
    path = Path(path)
    if not os.path.isfile(path):
        what = "a folder" if os.path.isdir(path) else "not there"
        raise UserError(f"expected a file of PyTorch weights, got {path}, which is {what}")
    network, state = read_state_dict(path, {name: expected_shapes(1, name).keys() for name in NETWORKS})
    _check_state_dict(path, state, network)
    return state


def _check_state_dict(name: str | os.PathLike, state: StateDict, network: str) -> None:
    """Raise `UserError` that lists all differences from a network's state_dict; `name` says where it is from."""
    first = state.get(f"{NETWORKS[network].geometry.layers[0].torch_name}.weight")
    expected = expected_shapes(3 if first is not None and first.ndim == 4 and first.shape[1] == 3 else 1, network)
    problems = [f"missing {key}" for key in expected if key not in state]
    problems += [f"extra {key}" for key in state if key not in expected]
    problems += [
        f"{key} has shape {state[key].shape}, expected {shape}"
        for key, shape in expected.items()
        if key in state and state[key].shape != shape
    ]
    problems += [
        f"{key} is {v.dtype}, which float32 cannot hold exactly" for key, v in state.items() if v.dtype != np.float32
    ]
    problems += [
        f"{key} holds NaN or infinity" for key, v in state.items() if v.dtype.kind == "f" and not np.isfinite(v).all()
    ]
    if problems:
        raise UserError(f"{name} does not hold the weights of the {NETWORKS[network].title}: {'; '.join(problems)}")


def from_state_dict(state: StateDict) -> "keras.Model":
    """Return the Keras model with the weights of a state_dict that `load_state_dict` returned."""
    network = next(name for name in NETWORKS if state.keys() == expected_shapes(1, name).keys())
    layers = NETWORKS[network].geometry.layers
    model = build_network(network, (None, None, state[f"{layers[0].torch_name}.weight"].shape[1]))
    for layer in layers:
        kernel = state[f"{layer.torch_name}.weight"].transpose(2, 3, 1, 0)
        if network == "autoencoder":
            kernel = kernel[::-1, ::-1]
        model.get_layer(layer.name).set_weights([kernel, *([state[f"{layer.torch_name}.bias"]] if layer.bias else [])])
    return model


def to_state_dict(model: "keras.Model") -> StateDict:
    """Return a model's weights as the state_dict of its network, float32 arrays.

    Args:
        model: made by `keras_dae.networks.build_network`, or loaded from a run.

    Raises:
        UserError: `model` is another network, or a weight is not finite.

    Example::

        from keras_dae import build_autoencoder, to_state_dict

        to_state_dict(build_autoencoder(seed=0))["decoder.4.bias"].shape  # (1,)
    """
    from keras_dae.networks.stored_form import layer_weights

    weights, network, state = layer_weights(model), network_name(model), {}
    for layer, (kernel, *biases) in zip(NETWORKS[network].geometry.layers, weights):
        state[f"{layer.torch_name}.weight"] = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))
        state |= {f"{layer.torch_name}.bias": bias for bias in biases}
    _check_state_dict(getattr(model, "name", "the model"), state, network)
    return state


def save_state_dict(state: StateDict, path: str | os.PathLike) -> None:
    """Write a state_dict atomically as `.safetensors`, or with torch as `.pt`, `.pth`, `.ckpt` or `.bin`.

    Raises:
        UserError: the file name has another ending, torch is missing, or the file cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ".safetensors":
        from safetensors.numpy import save_file

        with atomic_file(path) as temporary:
            save_file(state, temporary)
    elif suffix in TORCH_SUFFIXES:
        torch = import_torch(path)
        with atomic_file(path) as temporary:
            torch.save({key: torch.from_numpy(value) for key, value in state.items()}, temporary)
    else:
        raise UserError(f"expected a file ending in .safetensors, {', '.join(TORCH_SUFFIXES)}, got {path}")


def import_weights(path: str | os.PathLike, output_dir: str | os.PathLike) -> None:
    """Make a run folder with config.json and model.keras from a PyTorch file.

    Raises:
        UserError: see `load_state_dict`; or the folder exists, is being trained into, or cannot be written.
    """
    state = load_state_dict(path)
    run = folder_to_replace(output_dir)
    for taken in (run, run.with_name(f"{run.name}.partial")):  # an interrupted training has the latter
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


def export_weights(run: str | os.PathLike, path: str | os.PathLike, overwrite: bool = False) -> None:
    """Write the weights of a run folder or a .keras file as a PyTorch file.

    Args:
        run: run folder or .keras file.
        path: the file to write, see `save_state_dict`.
        overwrite: whether to replace an existing file.

    Raises:
        UserError: the run is missing or holds another network; or the file exists, or cannot be written.
    """
    from keras_dae.networks.keras_file import load_model

    if os.path.lexists(path) and not overwrite:
        raise UserError(f"{path} is there already; give --overwrite to replace it, or another name")
    file = Path(run, "model.keras") if os.path.isdir(run) else Path(run)
    save_state_dict(to_state_dict(load_model(file)), path)


def parser(prog: str = "python -m keras_dae.torch_weights") -> argparse.ArgumentParser:
    """Return the argument parser of the command."""
    parser = argparse.ArgumentParser(
        prog=prog, description="Convert weights of PyTorch to a run, or the weights of a run to PyTorch."
    )
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("import", help="make a run folder from a PyTorch file")
    command.add_argument("path", metavar="FILE", help="state_dict or checkpoint: safetensors, or a file of torch.save")
    command.add_argument("--output-dir", required=True, help="run folder to make")
    command.set_defaults(function=import_weights)
    command = commands.add_parser("export", help="make a PyTorch file from a run folder")
    command.add_argument("run", metavar="RUN", help="run folder or .keras file")
    command.add_argument("path", metavar="FILE", help="file to write: .safetensors, .pt, .pth, .ckpt or .bin")
    command.add_argument("--overwrite", action="store_true", help="replace FILE if it exists")
    command.set_defaults(function=export_weights)
    return parser


def main(argv: Sequence[str] | None = None, prog: str = "python -m keras_dae.torch_weights") -> int:
    """Command line of `import_weights` and `export_weights`; returns the exit status."""
    prepare_command()
    options = vars(parser(prog).parse_args(argv))
    return run_command(options.pop("function"), **options)


if __name__ == "__main__":
    sys.exit(main())
