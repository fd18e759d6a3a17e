"""A training with SGD, in which all images must have the same weight: `python sgd_training.py NPZ FOLDER`.

Writes the final weights of each worker as `worker<rank>.npz`. TF_CONFIG names the workers. With `--devices`, there is
one worker, and its processor counts as several devices.
"""

import argparse
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_dae.config import TrainConfig
from keras_dae.data.load import load_dataset
from keras_dae.train import fit as fit_module
from keras_dae.train import workers
from keras_dae.train.callbacks import EarlyStopping


def config(npz):
    """Return the config of the training: 3 validation images, so that two workers get different numbers of them."""
    return TrainConfig(
        dataset=str(npz),
        epochs=2,
        batch_size=16,
        initialization="he",
        validation_split=0.04,
        flips=True,
        average=0.8,
    )


def sgd(learning_rate, beta_1, beta_2, **options):
    """Return SGD instead of Adam, which would turn a difference of 1e-9 in a gradient into a whole step."""
    return keras.optimizers.SGD(0.5, **options)


class Weights(EarlyStopping):
    """Also writes the weights to `Weights.file` at the end of the training."""

    def on_train_end(self, logs=None):
        np.savez(Weights.file, *self.model.get_weights())


def main():
    """Train as the arguments say."""
    parser = argparse.ArgumentParser()
    parser.add_argument("npz")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--devices", type=int, default=1)
    options = parser.parse_args()
    if options.devices > 1:
        processor = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(
            processor, [tf.config.LogicalDeviceConfiguration()] * options.devices
        )
        workers.gpus = lambda: [f"CPU:{number}" for number in range(options.devices)]
    worker, _ = workers.rank_and_count()
    fit_module.keras.optimizers.Adam, fit_module.EarlyStopping = sgd, Weights
    Weights.file = options.folder / f"worker{worker}.npz"
    checkpoint = None if worker else options.folder / "checkpoint"
    fit_module.fit(config(options.npz), load_dataset(config(options.npz)), checkpoint)


if __name__ == "__main__":
    main()
