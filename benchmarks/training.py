"""Contenders in training: images/s over whole epochs, including the noise.

python -m benchmarks.training CONTENDER BATCH_SIZE    (started by `python -m benchmarks`)
"""

import sys
import time

from benchmarks.contender import serve
from keras_dae.config import TrainConfig
from keras_dae.data.load import load_dataset

IMAGES = 10_000  # in an epoch


def images():
    """Return uint8 `(IMAGES, 28, 28, 1)`: MNIST, or the built-in digits."""
    return load_dataset(TrainConfig()).train[:IMAGES]


def ours(batch_size):
    """Return a function that measures the second epoch of `model.fit` on the package's own pipeline."""
    return second_epoch(TrainConfig(batch_size=batch_size, epochs=2), images())


def second_epoch(config, train):
    """Return a function that trains two epochs on an array of images, and measures images/s in the second."""
    import keras

    from keras_dae.data.batches import epoch_plan, training_batches
    from keras_dae.train.callbacks import Throughput
    from keras_dae.train.fit import compiled_model
    from keras_dae.train.process import set_up_tensorflow

    set_up_tensorflow()
    batch_size, steps, steps_per_execution = epoch_plan(train, config)
    keras.utils.set_random_seed(config.seed)
    model = compiled_model(config, 0.5, steps, steps_per_execution)

    def measure():
        fitted = model.fit(
            training_batches(train, config),
            epochs=config.epochs,
            steps_per_epoch=steps,
            shuffle=False,
            verbose=0,
            callbacks=[Throughput(batch_size)],
        )
        return {"images/s": fitted.history["images_per_second"][-1]}

    return measure


def torch_loop(batch_size, **options):
    """Return a function that measures an epoch of the original's loop, see `benchmarks.torch_original.Training`."""
    import torch

    from benchmarks.torch_original import Training, to_tensor

    torch.manual_seed(0)
    training = Training(to_tensor(images()), batch_size, **options)

    def measure():
        start = time.perf_counter()
        training.epoch()
        return {"images/s": IMAGES / (time.perf_counter() - start)}

    return measure


CONTENDERS = {
    "keras_dae": ours,
    "PyTorch": torch_loop,
    "PyTorch, channels_last": lambda batch_size: torch_loop(batch_size, channels_last=True),
    "PyTorch, torch.compile": lambda batch_size: torch_loop(batch_size, compiled=True),
}


if __name__ == "__main__":
    serve(CONTENDERS[sys.argv[1]](int(sys.argv[2])))
