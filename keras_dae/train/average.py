"""The moving average of the weights: Keras's optimizer keeps it, and this puts it into the model while it is needed."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import keras
import numpy as np


@contextmanager
def averaged_weights(model: keras.Model) -> Iterator[None]:
    """Give a compiled model its averaged weights for the block, if its optimizer averages them.

    The weights of before come back exactly. (Keras's callback SwapEMAWeights swaps by adding and subtracting, which
    rounds the weights.)
    """
    if not model.optimizer.use_ema:
        yield
        return
    before = [np.asarray(variable) for variable in model.trainable_variables]
    model.optimizer.finalize_variable_values(model.trainable_variables)
    try:
        yield
    finally:
        for variable, value in zip(model.trainable_variables, before):
            variable.assign(value)


class ValidateAverage(keras.callbacks.Callback):
    """Validates the averaged weights instead of the weights of the last step."""

    def __init__(self):
        super().__init__()
        self.stack = ExitStack()

    def on_test_begin(self, logs: Any = None):
        self.stack.enter_context(averaged_weights(self.model))

    def on_test_end(self, logs: Any = None):
        self.stack.close()
