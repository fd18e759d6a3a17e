"""Keras callbacks that watch a training: its speed, and whether it still learns."""

import time

import keras
import numpy as np

from keras_dae.errors import UserError

MIN_VARIATION = 0.05  # of the denoised images, as a share of the clean images' own
STEPS_BEFORE_JUDGING = 300  # earlier, a network that will learn may still give a constant
ADVICE = "try a lower --learning-rate, more --warmup-steps, another --seed, or --initialization he"


class Throughput(keras.callbacks.Callback):
    """Adds `images_per_second` (training alone) to all logs, and `seconds` (validation too) to an epoch's."""

    def __init__(self, batch_size):
        super().__init__()
        self.batch_size = batch_size

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        self.images_per_second = round((batch + 1) * self.batch_size / (time.perf_counter() - self.start), 1)
        logs["images_per_second"] = self.images_per_second

    def on_epoch_end(self, epoch, logs=None):
        logs["images_per_second"] = self.images_per_second
        logs["seconds"] = round(time.perf_counter() - self.start, 3)


class StopIfUseless(keras.callbacks.Callback):
    """Raises `UserError` when the loss is no longer a number, or every image comes out the same.

    Args:
        noisy, clean: some validation images, float32 `(n, height, width, channels)`.
    """

    def __init__(self, noisy, clean):
        super().__init__()
        self.noisy, self.clean = noisy, clean

    def on_train_batch_end(self, batch, logs=None):
        if not np.isfinite(logs["loss"]):
            raise UserError(f"training diverged: the loss is {logs['loss']}; {ADVICE}")

    def on_epoch_end(self, epoch, logs=None):
        check_useful(self.model, self.noisy, self.clean)


def check_useful(model, noisy, clean):
    """Raise `UserError` when `model` gives no numbers, or (nearly) the same image for all of `noisy`.

    The measure is the standard deviation across images, averaged over pixels, beside that of the `clean` ones.
    """
    denoised = model.predict_on_batch(noisy)
    if not np.isfinite(denoised).all():
        raise UserError(f"training diverged: the denoised images hold NaN or infinity; {ADVICE}")
    expected, got = clean.std(axis=0).mean(), denoised.std(axis=0).mean()
    if got < MIN_VARIATION * expected and model.optimizer.iterations.numpy() >= STEPS_BEFORE_JUDGING:
        raise UserError(
            f"training collapsed: every image comes out the same (standard deviation across images {got:.2g}, "
            f"of the clean ones {expected:.2g}); {ADVICE}"
        )
