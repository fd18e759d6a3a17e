"""Checkpoints: the state after an epoch, from which training continues exactly as if it had never stopped."""

import csv
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from safetensors.numpy import load_file, save

from keras_dae._util.atomic import staged_folder
from keras_dae._util.json_files import read_json
from keras_dae.errors import UserError
from keras_dae.train.average import averaged_weights

CHECKSUM_FILE = "sha256.json"  # file name -> SHA-256 of the other files of a checkpoint
KEPT = 2  # checkpoints; if the newest is damaged, training continues from the one before
COLUMNS: tuple[str, ...] = ("epoch", "loss", "val_loss", "val_psnr", "seconds", "images_per_second")

HistoryRow = dict[str, int | float]  # the keys are COLUMNS


class Checkpoint(keras.callbacks.Callback):
    """Keeps the newest states of a training in a folder: weights, optimizer state, history and best weights.

    Each checkpoint is a folder such as `epoch-0007`, written atomically. So there is always a complete one, and its
    weights and history are from the same epoch. Checksums show whether a disk has damaged it since; then the one before
    is used.

    Args:
        folder: folder for the checkpoints. None keeps only the history, on a worker that is not the chief.
        keep_best: whether to keep the weights with the lowest validation loss, too.

    Attributes:
        history: one row per epoch; `epoch` counts from 1.
    """

    def __init__(self, folder: str | os.PathLike | None, keep_best: bool = False):
        super().__init__()
        self.folder = Path(folder) if folder else None
        self.keep_best = keep_best
        self.history: list[HistoryRow] = []

    def restore(self, model: keras.Model) -> int:
        """Load the newest undamaged checkpoint into a compiled model, if there is one. Return the epochs done.

        Damaged checkpoints are reported on stderr and removed.
        """
        for newest in reversed(self._checkpoints()):
            if not is_undamaged(newest):
                print(f"*** {newest} is damaged; continuing from the checkpoint before it. ***", file=sys.stderr)
                shutil.rmtree(newest, ignore_errors=True)
                continue
            model.optimizer.build(model.trainable_variables)
            load_variables(newest / "state.safetensors", [*model.variables, *model.optimizer.variables])
            self.history = read_history(newest / "history.csv")
            break
        return len(self.history)

    def restore_best(self, model: keras.Model) -> None:
        """Load the weights with the lowest validation loss into a model."""
        load_variables(self._checkpoints()[-1] / "best.safetensors", model.variables)

    def on_epoch_end(self, epoch, logs: Any = None):
        self.history.append({"epoch": epoch + 1, **{name: float(logs[name]) for name in COLUMNS[1:]}})
        if self.folder is None:
            return
        with staged_folder(self.folder / f"epoch-{epoch + 1:04d}") as staged:
            save_variables(staged / "state.safetensors", [*self.model.variables, *self.model.optimizer.variables])
            if self.keep_best:
                self._save_best(staged)
            write_history(staged / "history.csv", self.history)
            (staged / CHECKSUM_FILE).write_text(json.dumps(checksums(staged)), encoding="utf-8")
        for outdated in self._checkpoints()[:-KEPT]:
            shutil.rmtree(outdated, ignore_errors=True)

    def _save_best(self, staged: Path) -> None:
        """Write the best weights so far: the current weights or their average, or the best of the last checkpoint."""
        *earlier, loss = (row["val_loss"] for row in self.history)
        checkpoints = self._checkpoints()
        if checkpoints and loss >= min(earlier):
            shutil.copy(checkpoints[-1] / "best.safetensors", staged)
        else:
            with averaged_weights(self.model):
                save_variables(staged / "best.safetensors", self.model.variables)

    def _checkpoints(self) -> list[Path]:
        """Return the checkpoints, oldest first."""
        folders = self.folder.glob("epoch-*") if self.folder else []
        return sorted(folders, key=lambda path: (len(path.name), path.name))  # from epoch 10,000 on, names are longer


def save_variables(path: str | os.PathLike, variables: Iterable[keras.Variable]) -> None:
    """Write Keras variables as safetensors. (HDF5 would crash Python when the disk is full.)

    The names are the positions: Keras numbers its names by what else the process has built.
    """
    content = save({f"{number:03}": np.asarray(variable) for number, variable in enumerate(variables)})
    Path(path).write_bytes(content)


def load_variables(path: str | os.PathLike, variables: Iterable[keras.Variable]) -> None:
    """Give Keras variables the values that `save_variables` wrote."""
    values = load_file(path)
    for number, variable in enumerate(variables):
        variable.assign(values[f"{number:03}"])


def checksums(folder: Path) -> dict[str, str]:
    """Return file name -> SHA-256 of the files in a checkpoint, except for CHECKSUM_FILE itself."""
    files = sorted(file for file in folder.iterdir() if file.name != CHECKSUM_FILE)
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def is_undamaged(folder: Path) -> bool:
    """Return whether the files in a checkpoint match its checksums."""
    try:
        return read_json(folder / CHECKSUM_FILE) == checksums(folder)
    except (UserError, OSError):
        return False


def write_history(path: str | os.PathLike, rows: Iterable[HistoryRow]) -> None:
    """Write history rows as CSV. `read_history` returns exactly the same numbers."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def read_history(path: str | os.PathLike) -> list[HistoryRow]:
    """Return the rows that `write_history` wrote."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [{name: (int if name == "epoch" else float)(value) for name, value in row.items()} for row in rows]
