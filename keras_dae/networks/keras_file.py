"""The Keras file of a run: written without optimizer or metrics, read without running code from it."""

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import keras

from keras_dae._util.archives import UNREADABLE, check_archive
from keras_dae._util.atomic import atomic_file
from keras_dae.errors import UserError, first_line

MEMBERS = {"config.json", "metadata.json", "model.weights.h5"}  # files in a .keras archive
# A file that names any class but these, which our networks consist of, is refused before Keras builds it.
ALLOWED_CLASSES = ("Functional", "InputLayer", "Conv2D", "Conv2DTranspose", "Activation", "ReLU", "Flip", "DTypePolicy")
ALLOWED_MODULES = (
    "keras",
    "keras.layers",
    "keras.initializers",
    "keras.src.models.functional",
    "keras.src.ops.numpy",
)


def save_model(model: keras.Model, path: str | os.PathLike) -> None:
    """Write the network and its weights atomically, without optimizer and metrics, so that any Keras can load it.

    Raises:
        UserError: the file cannot be written.
    """
    plain = keras.Model.from_config(model.get_config())
    plain.set_weights(model.get_weights())
    with atomic_file(path) as temporary:
        plain.save(temporary)


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
    except (*UNREADABLE, AttributeError, RecursionError) as error:
        raise UserError(f"cannot load {path} as a Keras model: {first_line(error)}") from None
    return model


def _check_classes(config: Any) -> None:
    """Raise `ValueError` if a Keras config, or anything in it, names a class that is not allowed."""
    if isinstance(config, list):
        for value in config:
            _check_classes(value)
    if not isinstance(config, dict):
        return
    name, module = config.get("class_name"), config.get("module")
    is_ours = module in ALLOWED_MODULES and (name in ALLOWED_CLASSES or module == "keras.initializers")
    if name not in (None, "__keras_tensor__") and not is_ours:
        raise ValueError(
            f"it contains {module}.{name}, so it is not this network; it is not loaded, because it could run code"
        )
    for value in config.values():
        _check_classes(value)
