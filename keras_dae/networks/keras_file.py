"""The Keras file of a run: any Keras from 3.3 on (`unet`: 3.8) loads it on any backend; reading runs no code of it."""

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_dae._util.archives import UNREADABLE, check_archive
from keras_dae._util.atomic import atomic_file
from keras_dae.errors import UserError, first_line
from keras_dae.networks.autoencoder import flip
from keras_dae.networks.keras_settings import standard_settings
from keras_dae.networks.stored_form import stored_config, to_stored_form

MEMBERS = {"config.json", "metadata.json", "model.weights.h5"}  # files in a .keras archive
# The classes that our networks consist of. A file that names another one is refused before Keras builds it.
ALLOWED_CLASSES = {
    "keras": ("Sequential", "Model", "DTypePolicy"),
    "keras.layers": (
        "InputLayer",
        "Conv2D",
        "Conv2DTranspose",
        "ZeroPadding2D",
        "Cropping2D",
        "Activation",
        "ReLU",
        "Add",
    ),
    # Files of before have these; Keras itself wrote these paths.
    "keras.src.models.functional": ("Functional",),
    "keras.src.ops.numpy": ("Flip",),
}
INITIALIZERS = "keras.initializers"  # all classes of this module are allowed


@standard_settings()
def save_model(model: keras.Model, path: str | os.PathLike) -> None:
    """Write the network in its stored form atomically, without optimizer and metrics.

    Raises:
        UserError: the file cannot be written, or `model` is another network.
    """
    stored = to_stored_form(model)
    with atomic_file(path) as temporary:
        stored.save(temporary)
        with zipfile.ZipFile(temporary) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        members["config.json"] = json.dumps(stored_config(model)).encode()
        with zipfile.ZipFile(temporary, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)


@standard_settings()
def load_model(path: str | os.PathLike) -> keras.Model:
    """Return the Keras model in a `.keras` file.

    Raises:
        UserError: the file is missing or damaged, or holds a network with classes that ours do not have.
    """
    path = Path(path)
    if not os.path.isfile(path):
        raise UserError(f"expected a .keras file or a run folder that has one, got {path}, which is not there")
    try:
        check_archive(path)
        with zipfile.ZipFile(path) as archive:
            if others := set(archive.namelist()) - MEMBERS:  # Keras would unpack them
                raise ValueError(f"expected {', '.join(sorted(MEMBERS))} in it, got also {', '.join(sorted(others))}")
            _check_classes(json.loads(archive.read("config.json")))
        model: Any = keras.models.load_model(path, compile=False, safe_mode=True)
        return model if isinstance(model, keras.Sequential) else _with_flips_of_one_axis(model)
    except (*UNREADABLE, AttributeError, RecursionError) as error:
        raise UserError(f"cannot load {path} as a Keras model: {first_line(error)}") from None


def _with_flips_of_one_axis(model: keras.Model) -> keras.Model:
    """Return the model, or the same network if it flips two axes at once.

    Files of before hold such flips, which fail in Keras 3.12 and 3.13.
    """
    if not any(_flips_two_axes(operation) for operation in model.operations):
        return model
    noisy, *others = model.operations
    x = noisy.output
    for operation in others:
        x = flip(x) if _flips_two_axes(operation) else operation(x)
    return keras.Model(noisy.output, x, name=model.name)


def _flips_two_axes(operation: Any) -> bool:
    return type(operation).__name__ == "Flip" and list(np.atleast_1d(operation.axis)) == [1, 2]


def _check_classes(config: Any) -> None:
    """Raise `ValueError` if a Keras config, or anything in it, names a class that is not allowed."""
    if isinstance(config, list):
        for value in config:
            _check_classes(value)
    if not isinstance(config, dict):
        return
    name, module = config.get("class_name"), config.get("module")
    is_ours = module == INITIALIZERS or name in ALLOWED_CLASSES.get(str(module), ())
    if name not in (None, "__keras_tensor__") and not is_ours:
        raise ValueError(
            f"it contains {module}.{name}, so it is not this network; it is not loaded, because it could run code"
        )
    for value in config.values():
        _check_classes(value)
