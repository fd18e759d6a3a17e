"""Checkpoints: after every epoch the state from which training goes on exactly as if it had never stopped."""

import csv
import shutil
from pathlib import Path

import keras

from keras_dae.errors import UserError
from keras_dae.files import put_folder_in_place, sync, whole_file

COLUMNS = ("epoch", "loss", "val_loss", "val_psnr", "seconds", "images_per_second")


class Checkpoint(keras.callbacks.Callback):
    """Keeps the newest state of a training in `folder`: weights and optimizer, history, best weights.

    A checkpoint is a folder `epoch-0007` that is renamed into place when all its files are there, so that there
    is always a whole one, and weights and history are always of the same epoch.

    Attributes:
        folder: where the checkpoints are.
        keep_best: whether the weights with the lowest validation loss are kept too.
        history: one dict an epoch, with COLUMNS as keys; `epoch` counts from 1.
    """

    def __init__(self, folder, keep_best=False):
        super().__init__()
        self.folder = Path(folder)
        self.keep_best = keep_best
        self.history = []

    def restore(self, model):
        """Load the newest checkpoint, if there is one, into a compiled `model`; return the epochs done."""
        if newest := self._newest():
            model.optimizer.build(model.trainable_variables)
            model.load_weights(newest / "state.weights.h5")
            self.history = read_history(newest / "history.csv")
        return len(self.history)

    def restore_best(self, model):
        """Load the weights with the lowest validation loss into `model`."""
        model.load_weights(self._newest() / "best.weights.h5")

    def on_epoch_end(self, epoch, logs=None):
        self.history.append({"epoch": epoch + 1, **{name: float(logs[name]) for name in COLUMNS[1:]}})
        newest = self._newest()
        coming, target = self.folder / "coming", self.folder / f"epoch-{epoch + 1:04d}"
        try:
            shutil.rmtree(coming, ignore_errors=True)
            coming.mkdir(parents=True)
            self.model.save_weights(coming / "state.weights.h5")
            if self.keep_best:
                self._save_best(coming, newest)
            write_history(coming / "history.csv", self.history)
            for file in coming.iterdir():
                sync(file)
            put_folder_in_place(coming, target)
            if newest:
                shutil.rmtree(newest)
        except OSError as error:
            raise UserError(f"cannot write the checkpoint {target}: {error.strerror or error}") from error

    def _save_best(self, coming, newest):
        losses = [row["val_loss"] for row in self.history]
        if newest and losses[-1] >= min(losses[:-1]):
            shutil.copy(newest / "best.weights.h5", coming)
        else:
            shutil.copy(coming / "state.weights.h5", coming / "best.weights.h5")

    def _newest(self):
        return max(self.folder.glob("epoch-*"), default=None)


class EarlyStopping(keras.callbacks.Callback):
    """Ends the training after `patience` epochs without a lower validation loss.

    It follows from the history alone (Keras's own counts in memory), so an interrupted run stops where an
    uninterrupted one would.
    """

    def __init__(self, patience, checkpoint):
        super().__init__()
        self.patience, self.checkpoint = patience, checkpoint

    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = self.is_over()

    def is_over(self):
        """Return whether the history so far ends the training."""
        losses = [row["val_loss"] for row in self.checkpoint.history]
        return bool(losses) and len(losses) - 1 - losses.index(min(losses)) >= self.patience


def write_history(path, rows):
    """Write history rows as CSV, floats so that they read back exactly; whole or not at all."""
    with whole_file(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def read_history(path):
    """Return the rows that `write_history` wrote."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [{name: (int if name == "epoch" else float)(value) for name, value in row.items()} for row in rows]
