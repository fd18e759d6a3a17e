"""Read the weights in a file that PyTorch or safetensors wrote, whatever its ending is and whatever surrounds them.

No code in the file is run: `torch.load` is called with `weights_only=True`.
"""

import argparse
import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from keras_dae._util.archives import UNREADABLE, check_archive
from keras_dae.errors import UserError, first_line, printable

# Parts that PyTorch's own wrappers put into the keys: DataParallel, torch.compile, FSDP, activation checkpointing.
WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
COUNTERS = {"n_averaged"}  # what torch.optim.swa_utils.AveragedModel adds to the weights
MAX_DEPTH = 4  # of dicts in dicts
MAX_HEADER = 100_000_000  # bytes; safetensors allows no more
# safetensors' names of NumPy's types. bfloat16 is the upper half of a float32; NumPy does not have it.
SAFETENSORS_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1"}
SAFETENSORS_TYPES |= {"U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?"}
ADVICE = "save the weights alone: torch.save(model.state_dict(), file)"

Tensors = dict[str, np.ndarray]


def read_state_dict(path: Path, keys_of: Mapping[str, Set[str]]) -> tuple[str, Tensors]:
    """Return which network the weights in a file belong to, and the weights, under the network's keys.

    A checkpoint is searched for the dict that holds the weights. What stands before the keys, such as `module.` or
    `model.`, is removed. Floats of other types become float32 if that is exact. Tensors that the network does not have
    are returned, too.

    Args:
        path: the file.
        keys_of: network -> the keys of its state_dict.

    Raises:
        UserError: the file is damaged, is no file of weights, holds objects that could run code, holds different
            weights of a network, or none of them; or it needs PyTorch, which is not installed.
    """
    content = _read_safetensors(path) if _is_safetensors(path) else _read_torch(path)
    dicts = list(_tensor_dicts(content))
    found = {network: _network_weights(path, dicts, keys) for network, keys in keys_of.items()}
    for network, state in sorted(found.items(), key=lambda item: -len(item[1].keys() & keys_of[item[0]])):
        if state:
            return network, state
    names = [name for _, tensors in dicts for name in tensors]
    expected = " or ".join(f"those of {network} ({_listed(list(keys))})" for network, keys in keys_of.items())
    raise UserError(
        f"{path} does not hold the weights of a network: expected the keys {expected}, got "
        f"{_listed(names) if names else 'no tensors'}"
    )


def _network_weights(path: Path, dicts: list[tuple[str, dict[str, Any]]], keys: Set[str]) -> Tensors:
    """Return the weights of one network in a file, an empty dict if there are none."""
    try:
        candidates = [candidate for place, tensors in dicts for candidate in _candidates(place, tensors, keys)]
    except (RuntimeError, TypeError, NotImplementedError) as error:  # a tensor without values, or a quantized one
        raise UserError(f"cannot read the tensors in {path}: {first_line(error)}") from None
    if not candidates:
        return {}
    complete = [candidate for candidate in candidates if keys <= candidate[1].keys()]
    if any(
        not np.array_equal(tensors[key], complete[0][1][key], equal_nan=True)
        for _, tensors in complete[1:]
        for key in keys
    ):
        places = ", ".join(place for place, _ in complete)
        raise UserError(f"{path} holds several networks: {places}; save a file with the weights that you want")
    return max(complete or candidates, key=lambda candidate: len(keys & candidate[1].keys()))[1]


def _is_safetensors(path: Path) -> bool:
    """Return whether a file starts as safetensors do: with the length of a JSON object, and that object."""
    with open(path, "rb") as file:
        start = file.read(9)
    return start[8:] == b"{" and int.from_bytes(start[:8], "little") <= MAX_HEADER


def _read_safetensors(path: Path) -> Tensors:
    from safetensors import SafetensorError, deserialize

    try:
        return {name: _from_safetensors(name, **tensor) for name, tensor in deserialize(path.read_bytes())}
    except (SafetensorError, *UNREADABLE) as error:
        raise UserError(f"cannot read {path} as safetensors: {first_line(error)}") from None


def _from_safetensors(name: str, dtype: str, shape: list[int], data: bytearray) -> np.ndarray:
    if dtype == "BF16":
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32).reshape(shape)
    if dtype not in SAFETENSORS_TYPES:
        raise ValueError(f"{printable(name)} has the type {dtype}, expected F32, F16, BF16 or F64")
    return np.frombuffer(data, SAFETENSORS_TYPES[dtype]).reshape(shape)


def _read_torch(path: Path) -> Any:
    """Return what `torch.save` wrote into a file."""
    with open(path, "rb") as file:
        start = file.read(8)
    if not start.startswith((b"PK", b"\x80")):  # a zip archive, or a pickle of PyTorch before 1.6
        what = f"its first bytes are {start!r}" if start else "it is empty"
        raise UserError(f"{path} is neither safetensors nor a file of torch.save: {what}")
    torch = import_torch(path)
    try:
        if start.startswith(b"PK"):
            _check_torch_archive(path)
        # A checkpoint's options are an argparse.Namespace: values, no code. A path would be judged by its ending.
        with torch.serialization.safe_globals([argparse.Namespace]), open(path, "rb") as file:
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(f"cannot read {path} as PyTorch weights: {_unpickling_reason(str(error))}") from None
    except (*UNREADABLE, AttributeError, IndexError, AssertionError) as error:
        raise UserError(f"cannot read {path} as PyTorch weights: {first_line(error)}") from None


def import_torch(path: Path) -> ModuleType:
    """Return PyTorch, which the file at `path` needs.

    Raises:
        UserError: it is not installed.
    """
    try:
        import torch
    except ImportError:
        raise UserError(
            f"{path} needs PyTorch (pip install torch); or save the weights as .safetensors, which does not"
        ) from None
    return torch


def _check_torch_archive(path: Path) -> None:
    """Raise `ValueError` if a zip archive is damaged, or is no archive of `torch.save`."""
    check_archive(path)  # PyTorch does not verify the checksums
    with zipfile.ZipFile(path) as archive:
        members = archive.namelist()
    if any("/code/" in name for name in members):
        raise ValueError(f"it is a TorchScript program; {ADVICE}")
    if not any(name.endswith("data.pkl") for name in members):
        raise ValueError(f"it is a zip archive that torch.save did not write; it holds {_listed(members)}")


def _unpickling_reason(message: str) -> str:
    """Return the reason in a message of PyTorch, without its advice to load the file in an unsafe way."""
    if match := re.search(r"GLOBAL (\S+)", message):
        return f"it holds {printable(match[1])}, which is not loaded, because it could run code; {ADVICE}"
    reason = first_line(message.rpartition("WeightsUnpickler error:")[2])
    return f"it is damaged, or torch.save did not write it ({reason})"


def _tensor_dicts(content: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield `(place, key -> tensor)` for a dict and for each dict inside it that has tensors."""
    if not isinstance(content, Mapping) or len(place) > MAX_DEPTH:
        return
    tensors = {key: value for key, value in content.items() if isinstance(key, str) and hasattr(value, "ndim")}
    if tensors:
        yield "".join(f"{key}/" for key in place), tensors
    for key, value in content.items():
        yield from _tensor_dicts(value, (*place, str(key)))


def _candidates(place: str, tensors: dict[str, Any], keys: Set[str]) -> Iterator[tuple[str, Tensors]]:
    """Yield `(place, key -> array)` for each prefix that keys of the network have in a dict of tensors.

    The keys are without prefix and wrappers. Tensors that are no part of the network are in all that is yielded.
    """
    inside = rf"\.(?:(?:{'|'.join(WRAPPERS)})\.)*"
    pattern = re.compile(
        rf"(|.*\.)({'|'.join(inside.join(map(re.escape, key.split('.'))) for key in keys)})", re.DOTALL
    )
    networks: dict[str, Tensors] = {}
    others: Tensors = {}
    for name, tensor in tensors.items():
        match = pattern.fullmatch(name)
        network = networks.setdefault(match[1], {}) if match else others
        key = ".".join(part for part in match[2].split(".") if part not in WRAPPERS) if match else name
        if name not in COUNTERS:
            network[name if key in network else key] = _as_float32(tensor)
    for prefix, network in networks.items():
        yield printable(f"{place}{prefix}*"), {**network, **others}


def _as_float32(tensor: Any) -> np.ndarray:
    """Return a tensor of PyTorch or NumPy as an array: float32 if it holds floats and float32 holds all of them."""
    if not isinstance(tensor, np.ndarray):
        tensor = tensor.detach()
        if tensor.is_floating_point() and tensor.element_size() < 4:  # half, bfloat16, 8 bits
            tensor = tensor.float()
        tensor = tensor.numpy()
    if tensor.dtype.kind == "f" and tensor.dtype != np.float32:
        with np.errstate(over="ignore"):
            rounded = tensor.astype(np.float32)
        if np.array_equal(rounded, tensor, equal_nan=True):
            return rounded
    return tensor


def _listed(names: list[str]) -> str:
    return f"{', '.join(map(printable, names[:5]))}{' and others' if len(names) > 5 else ''}"
