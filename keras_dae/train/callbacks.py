"""Keras callbacks that watch a training: its speed, whether it still learns, and whether it can stop."""

import time
from typing import Any

import keras
import numpy as np

from keras_dae._util.stop_signals import check_stop_signals
from keras_dae.errors import UserError
from keras_dae.train.checkpoint import Checkpoint

MIN_VARIATION = 0.05  # of the denoised images, relative to the variation of the clean images
MIN_STEPS_TO_JUDGE = 300  # before that, even a network that will learn may output the same image every time
ADVICE = "try a lower --learning-rate, more --warmup-steps, another --seed, or --initialization he, with --overwrite"


class Throughput(keras.callbacks.Callback):
    """Adds `images_per_second` of the training to all logs, and `seconds` to an epoch's logs, validation included.

    Args:
        images: images per Keras step.
    """

    def __init__(self, images: int):
        super().__init__()
        self.images = images

    def on_epoch_begin(self, epoch, logs: Any = None):
        self.start = time.perf_counter()

    def on_train_batch_end(self, batch, logs: Any = None):
        self.images_per_second = round((batch + 1) * self.images / (time.perf_counter() - self.start), 1)
        logs["images_per_second"] = self.images_per_second

    def on_epoch_end(self, epoch, logs: Any = None):
        logs["images_per_second"] = self.images_per_second
        logs["seconds"] = round(time.perf_counter() - self.start, 3)


class StopWhenAsked(keras.callbacks.Callback):
    """Ends the training with `KeyboardInterrupt` if the process was asked to stop."""

    def on_train_batch_end(self, batch, logs: Any = None):
        check_stop_signals()

    def on_epoch_end(self, epoch, logs: Any = None):
        check_stop_signals()


class StopIfUseless(keras.callbacks.Callback):
    """Raises `UserError` if the loss is not finite. Calls `check_useful` after each epoch.

    Args:
        noisy, clean: some validation images, float32 `(n, height, width, channels)`.
    """

    def __init__(self, noisy: np.ndarray, clean: np.ndarray):
        super().__init__()
        self.noisy, self.clean = noisy, clean

    def on_train_batch_end(self, batch, logs: Any = None):
        if not np.isfinite(logs["loss"]):
            raise UserError(f"training diverged: the loss is {logs['loss']}; {ADVICE}")

    def on_epoch_end(self, epoch, logs: Any = None):
        check_useful(self.model, self.noisy, self.clean)


def check_useful(model: keras.Model, noisy: np.ndarray, clean: np.ndarray) -> None:
    """Check that the denoised images are finite, and that they vary.

    The variation of images is their standard deviation across images, averaged over pixels.

    Args:
        model: compiled model.
        noisy, clean: float32 `(n, height, width, channels)`.

    Raises:
        UserError: a denoised value is NaN or infinite; or, after MIN_STEPS_TO_JUDGE steps, the denoised images vary
            less than MIN_VARIATION times as much as the clean ones.
    """
    denoised = model.predict_on_batch(noisy)
    if not np.isfinite(denoised).all():
        raise UserError(f"training diverged: the denoised images hold NaN or infinity; {ADVICE}")
    expected, got = clean.std(axis=0).mean(), denoised.std(axis=0).mean()
    if got < MIN_VARIATION * expected and model.optimizer.iterations.numpy() >= MIN_STEPS_TO_JUDGE:
        raise UserError(
            f"training collapsed: every denoised image is the same (standard deviation across images {got:.2g}, "
            f"across the clean images {expected:.2g}); {ADVICE}"
        )


class EarlyStopping(keras.callbacks.Callback):
    """Ends the training after `patience` epochs without a lower validation loss.

    The decision depends only on the history of `checkpoint`. Keras's own callback counts in memory instead, so an
    interrupted training would stop later than an uninterrupted one.
    """

    def __init__(self, patience: int, checkpoint: Checkpoint):
        super().__init__()
        self.patience, self.checkpoint = patience, checkpoint

    def on_epoch_end(self, epoch, logs: Any = None):
        self.model.stop_training = self.is_over()

    def is_over(self) -> bool:
        """Return whether the history so far ends the training."""
        losses = [row["val_loss"] for row in self.checkpoint.history]
        return bool(losses) and len(losses) - 1 - losses.index(min(losses)) >= self.patience
