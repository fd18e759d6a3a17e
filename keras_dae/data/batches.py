"""tf.data datasets of `(noisy, clean)` batches. Their order and noise follow from the seed and the epoch alone.

One dataset runs through all epochs, so that `model.fit` keeps one iterator. A dataset that starts at a later epoch
yields exactly the batches that an uninterrupted run sees from there on.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_dae._util.memory import keep_freed_memory
from keras_dae.config import TrainConfig
from keras_dae.data.flips import flipped
from keras_dae.data.patches import PatchStream
from keras_dae.data.splits import EvaluationImages
from keras_dae.images.unit_range import to_unit
from keras_dae.noise import add_noise

VALIDATION_BATCH = 256  # images per device and batch
EVALUATION_SEED = 20_000  # for the noise of validation and test images; does not depend on the model or its seed
EVALUATION_CHUNK = 500  # images that get their evaluation noise at once
MAX_STEPS_PER_EXECUTION = 50
MAX_DROPPED_STEPS = 0.01  # of an epoch's steps, to allow more steps per execution
FLIPS = 1  # folded into a batch's seed for the positions of its images; the seed itself is for the noise
SINGLE_DEVICE = tf.distribute.InputContext()  # one worker with one device


class EpochPlan(NamedTuple):
    """How each epoch is divided.

    Attributes:
        batch_size: images per step, on all workers together.
        steps: optimizer steps per epoch.
        steps_per_execution: steps that TensorFlow runs at once; divides `steps`.
    """

    batch_size: int
    steps: int
    steps_per_execution: int


def epoch_plan(train: np.ndarray | PatchStream, config: TrainConfig, workers: int = 1) -> EpochPlan:
    """Return how each epoch on the training images is divided, for a number of workers."""
    images = len(train)
    if isinstance(train, PatchStream):  # each worker always reads the same files, so the smallest shard decides
        images = workers * min(len(train.shard(worker, workers)) for worker in range(workers))
    batch_size = min(config.batch_size, images)
    return EpochPlan(batch_size, *whole_executions(images // max(1, batch_size)))


def whole_executions(steps: int) -> tuple[int, int]:
    """Return `(steps, steps_per_execution)`, the first a multiple of the second.

    Few numbers have a divisor that makes a good number of steps per execution, so up to MAX_DROPPED_STEPS of the
    steps are dropped. Every epoch is shuffled anew, so no image is left out for good.

    Example:
        >>> whole_executions(593), whole_executions(600)
        ((592, 37), (600, 50))
    """
    for fewer in range(steps, steps - 1 - int(steps * MAX_DROPPED_STEPS), -1):
        divisor = _largest_divisor(fewer)
        if divisor * 4 >= min(MAX_STEPS_PER_EXECUTION, steps):
            return fewer, divisor
    return steps, _largest_divisor(steps)


def _largest_divisor(steps: int) -> int:
    return max(divisor for divisor in range(1, MAX_STEPS_PER_EXECUTION + 1) if steps % divisor == 0)


def training_batches(
    train: np.ndarray | PatchStream,
    config: TrainConfig,
    first_epoch: int = 0,
    context: tf.distribute.InputContext = SINGLE_DEVICE,
) -> tf.data.Dataset:
    """Return the training dataset for `model.fit`.

    It yields `(noisy, clean)`, float32 `(batch, height, width, channels)`, clean in [0, 1], and noisy too if
    `config.clip` is set: `epoch_plan(…).steps` batches for each epoch from `first_epoch` to `config.epochs`.

    Each of several workers gets an equal part of every batch. If the images are an array, the workers together see
    the batches of a single worker. If they are a stream, each worker reads only its shard of the files. The devices
    of a worker take turns at equal parts of its batches.

    Args:
        train: array `(n, height, width, channels)`, uint8 in 0 … 255 or float32 in [0, 1], or a `PatchStream`.
        config: `TrainConfig`.
        first_epoch: number of epochs already done.
        context: which worker this is, and how many devices there are.
    """
    worker, workers = context.input_pipeline_id, context.num_input_pipelines
    batch_size, steps, _ = epoch_plan(train, config, workers)
    if isinstance(train, PatchStream):
        clean_batches = _stream_batches(train.shard(worker, workers), config, batch_size // workers)
    else:
        clean_batches = _array_batches(train, config, batch_size, worker, workers)

    def epoch_batches(epoch):
        # The shuffle in _array_batches folds in 1. The noise folds in 0 on worker 0, and worker + 1 on the others.
        seed = _fold_in([tf.cast(config.seed, tf.int64), epoch], worker + 1 if worker else 0)
        numbered = clean_batches(epoch).take(steps).enumerate()
        return numbered.map(lambda step, batch: (_fold_in(seed, step), batch))

    def noisy_and_clean(seed, batch):
        clean, *noisy = flipped(batch, _fold_in(seed, FLIPS)) if config.flips else batch
        if noisy:  # real pairs
            return noisy[0], clean
        return add_noise(clean, config.noise, config.noise_factor, seed, config.clip), clean

    dataset = tf.data.Dataset.range(first_epoch, config.epochs).flat_map(epoch_batches)
    dataset = dataset.map(noisy_and_clean, num_parallel_calls=1)
    if context.num_replicas_in_sync > 1:
        dataset = dataset.rebatch(context.get_per_replica_batch_size(batch_size), drop_remainder=True)
        # With a finite dataset, TensorFlow asks all workers before every step whether they have more data.
        dataset = dataset.repeat()
    dataset = dataset.prefetch(4)
    options = tf.data.Options()
    # On two cores, an autotuned parallel map stalls now and then. One thread beside the training keeps up.
    options.autotune.enabled = False
    options.threading.private_threadpool_size = 1
    return dataset.with_options(options)


def _array_batches(
    train: np.ndarray, config: TrainConfig, batch_size: int, worker: int, workers: int
) -> Callable[[tf.Tensor], tf.data.Dataset]:
    """Return a function from an epoch to the dataset of this worker's `(clean,)` batches.

    The rows of the whole array are shuffled, and each worker gathers its columns of the table of batches.
    """
    columns = slice(batch_size * worker // workers, batch_size * (worker + 1) // workers)
    images, scale = tf.constant(train), 255.0 if train.dtype == np.uint8 else 1.0
    steps = len(train) // batch_size

    def epoch_batches(epoch):
        seed = _fold_in([tf.cast(config.seed, tf.int64), epoch], 1)
        rows = tf.random.experimental.stateless_shuffle(tf.range(len(train)), seed, alg="philox")
        rows = tf.reshape(rows[: steps * batch_size], (steps, batch_size))[:, columns]
        batches = tf.data.Dataset.from_tensor_slices(rows)
        return batches.map(lambda rows: (tf.cast(tf.gather(images, rows), tf.float32) / scale,))

    return epoch_batches


def _stream_batches(shard: PatchStream, config: TrainConfig, batch_size: int) -> Callable[[tf.Tensor], tf.data.Dataset]:
    """Return a function from an epoch to the dataset of one worker's `(clean,)` or `(clean, noisy)` batches."""
    batch = tf.TensorSpec((batch_size, shard.patch_size, shard.patch_size, config.channels), tf.float32)

    def patches(epoch):
        keep_freed_memory()
        return shard.batches(batch_size, config.seed, int(epoch))

    def epoch_batches(epoch):
        return tf.data.Dataset.from_generator(
            patches,
            output_signature=(batch,) * (2 if config.has_pairs else 1),
            args=(epoch,),
        )

    return epoch_batches


def validation_batches(
    noisy: np.ndarray, clean: np.ndarray, context: tf.distribute.InputContext = SINGLE_DEVICE
) -> tf.data.Dataset:
    """Return the dataset of `(noisy, clean)` batches for `model.fit` to validate on.

    With several devices, the dataset is infinite: take `validation_steps` batches per device.

    Args:
        noisy: float32 array `(n, height, width, channels)`.
        clean: float32 array `(n, height, width, channels)`.
        context: which worker this is, and how many devices there are.
    """
    replicas = context.num_replicas_in_sync
    if replicas == 1:
        return tf.data.Dataset.from_tensor_slices((noisy, clean)).batch(VALIDATION_BATCH)
    devices = replicas // context.num_input_pipelines  # of this worker; the dataset serves them in turn
    first = context.input_pipeline_id * devices
    ranges = [validation_ranges(len(clean), replicas, replica) for replica in range(first, first + devices)]
    in_turn = [bounds for step in zip(*ranges) for bounds in step]
    noisy_images, clean_images = tf.constant(noisy), tf.constant(clean)

    def batch(bounds):
        return noisy_images[bounds[0] : bounds[1]], clean_images[bounds[0] : bounds[1]]

    return tf.data.Dataset.from_tensor_slices(np.array(in_turn)).map(batch).repeat()


def validation_ranges(images: int, replicas: int, replica: int) -> list[tuple[int, int]]:
    """Return the range of rows `(start, end)` of each validation batch of one of several devices.

    The images are divided evenly among the devices, and each device's images evenly among its batches. So all devices
    have the same number of batches, and no batch is empty: an empty batch would make the mean loss NaN. With fewer
    images than devices, every device takes all images.

    Example:
        >>> validation_ranges(600, replicas=2, replica=0)
        [(0, 150), (150, 300)]
        >>> validation_ranges(600, replicas=2, replica=1)
        [(300, 450), (450, 600)]
    """
    devices = _even_ranges(0, images, replicas) if images >= replicas else [(0, images)] * replicas
    largest = max(end - start for start, end in devices)
    return _even_ranges(*devices[replica], count=-(-largest // VALIDATION_BATCH))


def validation_steps(images: int, replicas: int) -> int | None:
    """Return the number of validation batches of each of several devices; None for one, whose dataset is finite."""
    return None if replicas == 1 else len(validation_ranges(images, replicas, 0))


def _even_ranges(start: int, end: int, count: int) -> list[tuple[int, int]]:
    """Divide the rows from `start` to `end` into ranges whose sizes differ by at most one."""
    parts = np.array_split(np.arange(start, end), count)
    return [(int(rows[0]), int(rows[-1]) + 1) for rows in parts]


def _fold_in(seed, number):
    return tf.random.fold_in(tf.convert_to_tensor(seed), number, alg="philox")


def evaluation_images(images: EvaluationImages, config: TrainConfig) -> tuple[np.ndarray, np.ndarray]:
    """Return `(noisy, clean)`, float32 arrays `(n, height, width, channels)`. The noise is the same for every model.

    Args:
        images: the clean images. If real noisy images come with them, these are returned and no noise is added.
        config: `TrainConfig`, for the noise.
    """
    clean = to_unit(images.clean)
    if images.noisy is not None:
        return to_unit(images.noisy), clean
    noisy = [
        add_noise(
            clean[start : start + EVALUATION_CHUNK],
            config.noise,
            config.noise_factor,
            (EVALUATION_SEED, start),
            config.clip,
        )
        for start in range(0, len(clean), EVALUATION_CHUNK)
    ]
    return np.concatenate(noisy), clean
