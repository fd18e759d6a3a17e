"""The Keras file of a run: written without optimizer or metrics, read without running anything it holds."""

import json
import os
import zipfile
from pathlib import Path

import keras

from keras_dae._util.archives import UNREADABLE, check_archive
from keras_dae._util.atomic import atomic_file
from keras_dae.errors import UserError, first_line

MEMBERS = {"config.json", "metadata.json", "model.weights.h5"}
# What our networks are made of. A file that names anything else is refused before Keras builds it.
KNOWN = ("Functional", "InputLayer", "Conv2D", "Conv2DTranspose", "Activation", "ReLU", "Flip", "DTypePolicy")
KNOWN_MODULES = ("keras", "keras.layers", "keras.initializers", "keras.src.models.functional", "keras.src.ops.numpy")


def save_model(model, path):
    """Save the network and its weights alone, without optimizer or metrics, so that any Keras loads it."""
    plain = keras.Model.from_config(model.get_config())
    plain.set_weights(model.get_weights())
    with atomic_file(path) as temporary:
        plain.save(temporary)


def load_model(path):
    """Return the Keras model in a `.keras` file.

    Raises:
        UserError: it is missing, damaged, no such file, or made of other things than our networks are.
    """
    path = Path(path)
    if not os.path.isfile(path):
        raise UserError(f"expected a .keras file or a run folder that has one, got {path}, which is not there")
    try:
        check_archive(path)
        with zipfile.ZipFile(path) as archive:
            if others := set(archive.namelist()) - MEMBERS:  # Keras would unpack them
                raise ValueError(f"expected {', '.join(sorted(MEMBERS))} in it, got also {', '.join(sorted(others))}")
            _check_config(json.loads(archive.read("config.json")))
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except (*UNREADABLE, AttributeError, RecursionError) as error:
        raise UserError(f"cannot load {path} as a Keras model: {first_line(error)}") from None


def _check_config(config):
    """Raise `ValueError` when a Keras config names a class that is none of ours."""
    if isinstance(config, dict):
        name, module = config.get("class_name"), config.get("module")
        initializer = module == "keras.initializers"
        known = name == "__keras_tensor__" or (module in KNOWN_MODULES and (initializer or name in KNOWN))
        if name is not None and not known:
            raise ValueError(
                f"{module}.{name} is a part of it, so it is not this network; nothing else is loaded, it could run code"
            )
    for part in config.values() if isinstance(config, dict) else config if isinstance(config, list) else ():
        _check_config(part)
