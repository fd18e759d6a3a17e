"""tf.data of (noisy, clean) batches; order and noise follow from (seed, epoch) alone.

One dataset runs through all epochs, so that `model.fit` keeps one iterator; starting it at a later epoch gives
exactly the batches that an uninterrupted run would have seen from there on.
"""

import numpy as np
import tensorflow as tf

from keras_dae.data.patches import PatchStream
from keras_dae.images.unit_range import to_unit
from keras_dae.noise import add_noise

VALIDATION_BATCH = 256
EVALUATION_SEED = 20_000  # noise of validation and test images: the same for every model and training seed
EVALUATION_CHUNK = 500  # images that get their evaluation noise at once
MAX_STEPS_PER_EXECUTION = 50
ALONE = tf.distribute.InputContext()  # one worker, one device
MAX_DROPPED = 0.01  # of an epoch's steps, for a better number of steps per execution


def training_batches(train, config, first_epoch=0, context=ALONE):
    """Return the dataset for `model.fit`, whose epochs are as `epoch_plan` says.

    It yields `(noisy, clean)`, float32 `(batch, height, width, channels)`, clean in [0, 1]: `steps`
    batches for each epoch from `first_epoch` to `config.epochs`. Each of several workers gets its share of every
    batch: of an array, the same images that one alone would train on; of a stream, those of its share of the files.

    Args:
        train: uint8 or float32 `(n, height, width, channels)`, or a `PatchStream`.
        config: `TrainConfig`.
        first_epoch: 0, or the number of epochs already done.
        context: `tf.distribute.InputContext`, which worker this is. Several GPUs take turns at the batches, which
            are divided among them.
    """
    worker, workers, replicas = context.input_pipeline_id, context.num_input_pipelines, context.num_replicas_in_sync
    batch_size, steps, _ = epoch_plan(train, config, workers)
    clean_batches = (_stream_batches if isinstance(train, PatchStream) else _array_batches)(
        train, config, batch_size, worker, workers
    )

    def epoch_batches(epoch):
        # 1 is taken by the order of the images.
        seed = _fold_in([tf.cast(config.seed, tf.int64), epoch], worker + 1 if worker else 0)
        numbered = clean_batches(epoch).take(steps).enumerate()
        return numbered.map(lambda step, batch: (_fold_in(seed, step), batch))

    def noisy_and_clean(seed, batch):
        clean, *noisy = batch
        if noisy:  # real pairs
            return noisy[0], clean
        return add_noise(clean, config.noise, config.noise_factor, seed, config.clip), clean

    dataset = tf.data.Dataset.range(first_epoch, config.epochs).flat_map(epoch_batches)
    dataset = dataset.map(noisy_and_clean, num_parallel_calls=1)
    if replicas > 1:
        # Only of a dataset without end TensorFlow does not ask all workers, at every step, whether they have more.
        dataset = dataset.rebatch(context.get_per_replica_batch_size(batch_size), drop_remainder=True).repeat()
    dataset = dataset.prefetch(4)
    options = tf.data.Options()
    # On two cores an autotuned parallel map stalls now and then; one thread beside the training keeps up.
    options.autotune.enabled = False
    options.threading.private_threadpool_size = 1
    return dataset.with_options(options)


def epoch_plan(train, config, workers=1):
    """Return `(batch_size, steps, steps_per_execution)` of every epoch on `train`, the batch being all workers'."""
    images = len(train)
    if isinstance(train, PatchStream):  # its images, unlike an array's, are shared out once and for all
        images = workers * min(len(train.shard(worker, workers)) for worker in range(workers))
    batch_size = min(config.batch_size, images)
    return batch_size, *executions(images // max(1, batch_size))


def executions(steps):
    """Return `(steps, steps_per_execution)`, the latter being how many steps TensorFlow runs at once.

    An epoch must be a whole number of executions, so where the steps have no divisor of a good size, a few are
    dropped. (Every epoch is shuffled anew, so no image is dropped for good.)
    """
    for fewer in range(steps, steps - 1 - int(steps * MAX_DROPPED), -1):
        divisor = max(d for d in range(1, MAX_STEPS_PER_EXECUTION + 1) if fewer % d == 0)
        if divisor * 4 >= min(MAX_STEPS_PER_EXECUTION, steps):
            return fewer, divisor
    return steps, max(d for d in range(1, MAX_STEPS_PER_EXECUTION + 1) if steps % d == 0)


def _array_batches(train, config, batch_size, worker, workers):
    """Return a function from an epoch to its dataset of `(clean,)`: rows are shuffled, whole batches gathered."""
    share = slice(batch_size * worker // workers, batch_size * (worker + 1) // workers)
    images, scale = tf.constant(train), 255.0 if train.dtype == np.uint8 else 1.0
    steps = len(train) // batch_size

    def epoch_batches(epoch):
        seed = _fold_in([tf.cast(config.seed, tf.int64), epoch], 1)
        rows = tf.random.experimental.stateless_shuffle(tf.range(len(train)), seed, alg="philox")
        rows = tf.reshape(rows[: steps * batch_size], (steps, batch_size))[:, share]
        batches = tf.data.Dataset.from_tensor_slices(rows)
        return batches.map(lambda rows: (tf.cast(tf.gather(images, rows), tf.float32) / scale,))

    return epoch_batches


def _stream_batches(train, config, batch_size, worker, workers):
    """Return a function from an epoch to its dataset of `(clean,)` or `(clean, noisy)` patches."""
    train, batch_size, size = train.shard(worker, workers), batch_size // workers, train.patch_size
    batch = tf.TensorSpec((batch_size, size, size, config.channels), tf.float32)

    def epoch_batches(epoch):
        return tf.data.Dataset.from_generator(
            lambda epoch: train.batches(batch_size, config.seed, int(epoch)),
            output_signature=(batch,) * (2 if config.has_pairs else 1),
            args=(epoch,),
        )

    return epoch_batches


def validation_batches(noisy, clean, context=ALONE):
    """Return the dataset of `(noisy, clean)` batches to validate on; of several devices each has the same number.

    For several it has no end, see `validation_steps`.

    Args:
        noisy, clean: float32 arrays `(n, height, width, channels)`.
        context: `tf.distribute.InputContext`, which worker this is.
    """
    replicas = context.num_replicas_in_sync
    if replicas == 1:
        return tf.data.Dataset.from_tensor_slices((noisy, clean)).batch(VALIDATION_BATCH)
    # No batch may be empty, whose mean would be none: with fewer images than devices, each device takes all.
    rows = np.arange(len(clean))
    shares = np.array_split(rows, replicas) if len(rows) >= replicas else [rows] * replicas
    count = validation_steps(len(clean), replicas)
    local = replicas // context.num_input_pipelines
    mine = shares[context.input_pipeline_id * local :][:local]
    batches = [batch for batches in zip(*(np.array_split(share, count) for share in mine)) for batch in batches]
    edges = np.array([(batch[0], batch[-1] + 1) for batch in batches])
    edges = tf.data.Dataset.from_tensor_slices((edges[:, 0], edges[:, 1]))
    noisy, clean = tf.constant(noisy), tf.constant(clean)
    return edges.map(lambda start, end: (noisy[start:end], clean[start:end])).repeat()


def validation_steps(images, replicas):
    """Return in how many batches each of several devices takes its share; None for one, whose dataset ends."""
    share = images if images < replicas else -(-images // replicas)
    return None if replicas == 1 else -(-share // VALIDATION_BATCH)


def _fold_in(seed, number):
    return tf.random.fold_in(tf.convert_to_tensor(seed), number, alg="philox")


def evaluation_images(pairs, config):
    """Return `(noisy, clean)`: float32 arrays `(n, height, width, channels)`, the same noise for every model.

    Args:
        pairs: `keras_dae.data.splits.EvaluationImages`; real noisy images are used where they are given.
        config: `TrainConfig`, for the noise.
    """
    clean = to_unit(pairs.clean)
    if pairs.noisy is not None:
        return to_unit(pairs.noisy), clean
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
