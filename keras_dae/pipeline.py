"""tf.data of (noisy, clean) batches; order and noise follow from (seed, epoch) alone.

One dataset runs through all epochs, so that `model.fit` keeps one iterator; starting it at a later epoch gives
exactly the batches that an uninterrupted run would have seen from there on.
"""

import numpy as np
import tensorflow as tf

from keras_dae.noise import add_noise
from keras_dae.patches import PatchStream, unit_float

EVALUATION_SEED = 20_000  # noise of validation and test images: the same for every model and training seed
EVALUATION_CHUNK = 500  # images that get their evaluation noise at once
MOST_STEPS_PER_EXECUTION = 50
MOST_DROPPED = 0.01  # of an epoch's steps, for a better number of steps per execution


def training_batches(train, config, first_epoch=0):
    """Return the dataset for `model.fit`, whose epochs are as `epoch_plan` says.

    It yields `(noisy, clean)`, float32 `(batch, height, width, channels)`, clean in [0, 1]: `steps`
    batches for each epoch from `first_epoch` to `config.epochs`.

    Args:
        train: uint8 or float32 `(n, height, width, channels)`, or a `PatchStream`.
        config: `TrainConfig`.
        first_epoch: 0, or the number of epochs already done.
    """
    batch_size, steps, _ = epoch_plan(train, config)
    clean_batches = (_stream_batches if isinstance(train, PatchStream) else _array_batches)(train, config, batch_size)

    def epoch_batches(epoch):
        seed = _fold_in([tf.cast(config.seed, tf.int64), epoch], 0)
        numbered = clean_batches(epoch).take(steps).enumerate()
        return numbered.map(lambda step, batch: (_fold_in(seed, step), batch))

    def noisy_and_clean(seed, batch):
        clean, *noisy = batch
        if noisy:  # real pairs
            return noisy[0], clean
        return add_noise(clean, config.noise, config.noise_factor, seed, config.clip), clean

    dataset = tf.data.Dataset.range(first_epoch, config.epochs).flat_map(epoch_batches)
    dataset = dataset.map(noisy_and_clean, num_parallel_calls=1).prefetch(4)
    options = tf.data.Options()
    # On two cores an autotuned parallel map stalls now and then; one thread beside the training keeps up.
    options.autotune.enabled = False
    options.threading.private_threadpool_size = 1
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return dataset.with_options(options)


def epoch_plan(train, config):
    """Return `(batch_size, steps, steps_per_execution)` of every epoch on `train`."""
    batch_size = min(config.batch_size, len(train))
    return batch_size, *executions(len(train) // batch_size)


def executions(steps):
    """Return `(steps, steps_per_execution)`, the latter being how many steps TensorFlow runs at once.

    An epoch must be a whole number of executions, so where the steps have no divisor of a good size, a few are
    dropped. (Every epoch is shuffled anew, so no image is dropped for good.)
    """
    for fewer in range(steps, steps - 1 - int(steps * MOST_DROPPED), -1):
        divisor = max(d for d in range(1, MOST_STEPS_PER_EXECUTION + 1) if fewer % d == 0)
        if divisor * 4 >= min(MOST_STEPS_PER_EXECUTION, steps):
            return fewer, divisor
    return steps, max(d for d in range(1, MOST_STEPS_PER_EXECUTION + 1) if steps % d == 0)


def _array_batches(train, config, batch_size):
    """Return a function from an epoch to its dataset of `(clean,)`: rows are shuffled, whole batches gathered."""
    images, scale = tf.constant(train), 255.0 if train.dtype == np.uint8 else 1.0
    steps = len(train) // batch_size

    def epoch_batches(epoch):
        seed = _fold_in([tf.cast(config.seed, tf.int64), epoch], 1)
        rows = tf.random.experimental.stateless_shuffle(tf.range(len(train)), seed, alg="philox")
        batches = tf.data.Dataset.from_tensor_slices(tf.reshape(rows[: steps * batch_size], (steps, batch_size)))
        return batches.map(lambda rows: (tf.cast(tf.gather(images, rows), tf.float32) / scale,))

    return epoch_batches


def _stream_batches(train, config, batch_size):
    """Return a function from an epoch to its dataset of `(clean,)` or `(clean, noisy)` patches."""
    size = train.patch_size
    batch = tf.TensorSpec((batch_size, size, size, config.channels), tf.float32)

    def epoch_batches(epoch):
        return tf.data.Dataset.from_generator(
            lambda epoch: train.batches(batch_size, config.seed, int(epoch)),
            output_signature=(batch,) * (2 if config.has_pairs else 1),
            args=(epoch,),
        )

    return epoch_batches


def _fold_in(seed, number):
    return tf.random.fold_in(tf.convert_to_tensor(seed), number, alg="philox")


def evaluation_images(pairs, config):
    """Return `(noisy, clean)`: float32 arrays `(n, height, width, channels)`, the same noise for every model.

    Args:
        pairs: `keras_dae.dataset.Pairs`; real noisy images are used where they are given.
        config: `TrainConfig`, for the noise.
    """
    clean = unit_float(pairs.clean)
    if pairs.noisy is not None:
        return unit_float(pairs.noisy), clean
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
