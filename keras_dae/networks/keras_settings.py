"""The settings of Keras that our networks need, whatever keras.json or the user's code says."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from keras_dae.errors import UserError

if TYPE_CHECKING:
    import keras


@contextlib.contextmanager
def standard_settings() -> Iterator[None]:
    """Run the block under Keras's defaults: float32, channels last, no limit of epochs. The user's come back after it.

    Networks that are built inside keep the data type and the layout.

    Example::

        with standard_settings():
            keras.layers.Conv2D(16, 3).data_format  # "channels_last"
    """
    import keras

    config = keras.config
    before = config.floatx(), config.dtype_policy(), config.image_data_format()
    limits = config.max_epochs(), config.max_steps_per_epoch()
    try:
        _apply("float32", "float32", "channels_last")
        config.set_max_epochs(None)  # KERAS_MAX_EPOCHS would end a training early, without a word
        config.set_max_steps_per_epoch(None)
        yield
    finally:
        _apply(*before)
        config.set_max_epochs(limits[0])
        config.set_max_steps_per_epoch(limits[1])


def _apply(floatx: str, policy: "str | keras.DTypePolicy", image_data_format: str) -> None:
    import keras

    keras.config.set_floatx(floatx)
    keras.config.set_dtype_policy(policy)
    keras.config.set_image_data_format(image_data_format)


def check_backend() -> None:
    """Raise `UserError` if Keras runs on another backend than TensorFlow.

    Raises:
        UserError: as said.
    """
    import keras

    if (backend := keras.config.backend()) != "tensorflow":
        raise UserError(
            f"training needs Keras on TensorFlow, got the backend {backend}; set KERAS_BACKEND=tensorflow before Keras "
            "is imported"
        )
