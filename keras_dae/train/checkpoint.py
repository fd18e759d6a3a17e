"""Checkpoints: after every epoch the state from which training goes on exactly as if it had never stopped."""

import csv
import hashlib
import shutil
import sys
from pathlib import Path

import keras
import numpy as np
from safetensors.numpy import load_file, save

from keras_dae._util.atomic import atomic_file, staged_folder
from keras_dae._util.json_files import read_json, write_json
from keras_dae.errors import UserError

SUMS = "sha256.json"  # of the other files of a checkpoint, by name
KEPT = 2  # checkpoints: should the newest be damaged, the training goes on from the one before
COLUMNS = ("epoch", "loss", "val_loss", "val_psnr", "seconds", "images_per_second")


class Checkpoint(keras.callbacks.Callback):
    """Keeps the newest states of a training in `folder`: weights and optimizer, history, best weights.

    A checkpoint is a folder `epoch-0007` that is renamed into place when all its files are on the disk, so that there
    is always a whole one, and weights and history are always of the same epoch. Should the disk damage it all the
    same, its checksums tell, and the one before is used.

    Attributes:
        folder: where the checkpoints are; None keeps the history alone, on a worker that is not the chief.
        keep_best: whether the weights with the lowest validation loss are kept too.
        history: one dict an epoch, with COLUMNS as keys; `epoch` counts from 1.
    """

    def __init__(self, folder, keep_best=False):
        super().__init__()
        self.folder = folder and Path(folder)
        self.keep_best = keep_best
        self.history = []

    def restore(self, model):
        """Load the newest sound checkpoint, if there is one, into a compiled `model`; return the epochs done.

        Damaged ones are named on stderr and removed.
        """
        for newest in reversed(self._all()):
            if not is_sound(newest):
                print(f"*** {newest} is damaged; going on from what is before it. ***", file=sys.stderr)
                shutil.rmtree(newest, ignore_errors=True)
                continue
            model.optimizer.build(model.trainable_variables)
            load_variables(newest / "state.safetensors", [*model.variables, *model.optimizer.variables])
            self.history = read_history(newest / "history.csv")
            break
        return len(self.history)

    def restore_best(self, model):
        """Load the weights with the lowest validation loss into `model`."""
        load_variables(self._all()[-1] / "best.safetensors", model.variables)

    def on_epoch_end(self, epoch, logs=None):
        self.history.append({"epoch": epoch + 1, **{name: float(logs[name]) for name in COLUMNS[1:]}})
        if self.folder is None:
            return
        before = self._all()
        with staged_folder(self.folder / f"epoch-{epoch + 1:04d}") as folder:
            save_variables(folder / "state.safetensors", [*self.model.variables, *self.model.optimizer.variables])
            if self.keep_best:
                self._save_best(folder, before[-1] if before else None)
            write_history(folder / "history.csv", self.history)
            write_json(folder / SUMS, checksums(folder))
        for old in [*before, folder][:-KEPT]:
            shutil.rmtree(old, ignore_errors=True)

    def _save_best(self, folder, newest):
        losses = [row["val_loss"] for row in self.history]
        if newest and losses[-1] >= min(losses[:-1]):
            shutil.copy(newest / "best.safetensors", folder)
        else:
            save_variables(folder / "best.safetensors", self.model.variables)

    def _all(self):
        """Return the checkpoints, oldest first."""
        found = self.folder.glob("epoch-*") if self.folder else []
        return sorted(found, key=lambda path: (len(path.name), path.name))  # from epoch 10,000 on, names are longer


def save_variables(path, variables):
    """Write Keras variables as safetensors, whole or not at all. (HDF5 crashes Python when the disk is full.)"""
    # By number: Keras counts names up, so that another model in the same process has others.
    content = save({f"{number:03}": np.asarray(variable) for number, variable in enumerate(variables)})
    with atomic_file(path) as temporary:
        temporary.write_bytes(content)


def load_variables(path, variables):
    """Give Keras variables the values that `save_variables` wrote."""
    values = load_file(path)
    for number, variable in enumerate(variables):
        variable.assign(values[f"{number:03}"])


def checksums(folder):
    """Return file name -> SHA-256 of the files in a checkpoint."""
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.iterdir())
        if file.name != SUMS
    }


def is_sound(folder):
    """Return whether the files in a checkpoint are what was written."""
    try:
        return read_json(folder / SUMS) == checksums(folder)
    except (UserError, OSError):
        return False


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
    with atomic_file(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def read_history(path):
    """Return the rows that `write_history` wrote."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [{name: (int if name == "epoch" else float)(value) for name, value in row.items()} for row in rows]
