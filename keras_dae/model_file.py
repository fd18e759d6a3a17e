"""The Keras file of a run: written without optimizer or metrics, read without running anything it holds."""

import zipfile
from pathlib import Path

import keras

from keras_dae.errors import UserError, first_line
from keras_dae.files import whole_file


def save_model(model, path):
    """Save the network and its weights alone, without optimizer or metrics, so that any Keras loads it."""
    plain = keras.Model.from_config(model.get_config())
    plain.set_weights(model.get_weights())
    with whole_file(path) as temporary:
        plain.save(temporary)


def load_model(path):
    """Return the Keras model in a `.keras` file; raises `UserError` when it is missing or no such file."""
    if not Path(path).is_file():
        raise UserError(f"expected a .keras file or a run folder that has one, got {path}, which is not there")
    try:
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise UserError(f"cannot load {path} as a Keras model: {first_line(error)}") from None
