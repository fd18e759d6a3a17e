"""The training itself: `model.fit`, resumable, the same bits for the same seed."""

import contextlib
import re
import sys

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework import ops as tensorflow_ops

from keras_dae.config import LOCATION_FIELDS
from keras_dae.data.batches import epoch_plan, evaluation_images, training_batches, validation_batches, validation_steps
from keras_dae.errors import UserError
from keras_dae.metrics import psnr
from keras_dae.networks.autoencoder import build_autoencoder
from keras_dae.runs.folder import describe
from keras_dae.train import workers
from keras_dae.train.callbacks import StopIfUseless, Throughput, check_useful
from keras_dae.train.checkpoint import Checkpoint, EarlyStopping
from keras_dae.train.distributed import Distributed, keep_iterator
from keras_dae.train.split_batch import InParts, parts_of, use_cores_apart

WATCHED = 100  # validation images on which a collapse is looked for


@workers.together()
def fit(config, dataset, checkpoint_dir, tensorboard=None):
    """Train on `dataset`, going on from a checkpoint if there is one; return `(model, history)`.

    `history` is a list of dicts with `keras_dae.train.checkpoint.COLUMNS` as keys, one an epoch.

    Args:
        config: `TrainConfig`.
        dataset: `keras_dae.data.splits.DatasetSplits`.
        checkpoint_dir: folder of the checkpoints; None on a worker that is not the chief, for which the model
            returned is None too.
        tensorboard: folder for TensorBoard's event files, or None.

    Raises:
        UserError: the training diverged or collapsed, images can no longer be read, a checkpoint cannot be written, or
            another worker differs or has ended.
    """
    use_cores_apart()
    keras.utils.set_random_seed(config.seed)
    tf.config.experimental.enable_op_determinism()
    strategy = workers.strategy()
    worker, count = workers.place()
    about = describe(config, dataset)
    options = {name: value for name, value in about["config"].items() if name not in LOCATION_FIELDS}
    workers.check_same(strategy, {**options, **about["versions"], "images": dataset.sha256})
    noisy, clean = evaluation_images(dataset.validation, config)
    batch_size, steps, steps_per_execution = epoch_plan(dataset.train, config, count)
    workers.check_batch(strategy, batch_size)
    model = compiled_model(config, clean.mean(), steps, steps_per_execution, strategy)
    checkpoint = Checkpoint(checkpoint_dir, keep_best=config.early_stopping is not None)
    checkpoint.restore(model)
    done = workers.go_on_with_chief(strategy, model, checkpoint)
    if done:
        print(f"going on after epoch {done} of {config.epochs}")
    early_stopping = EarlyStopping(config.early_stopping or config.epochs, checkpoint)
    if done < config.epochs and not early_stopping.is_over():
        callbacks = [
            Throughput(batch_size * model.steps),
            StopIfUseless(noisy[:WATCHED], clean[:WATCHED]),
            checkpoint,
            early_stopping,
        ]
        if tensorboard and not worker:
            callbacks.insert(1, keras.callbacks.TensorBoard(tensorboard, write_graph=False))
        distribute = strategy.distribute_datasets_from_function
        training = distribute(lambda context: training_batches(dataset.train, config, done, context))
        validation = distribute(lambda context: validation_batches(noisy, clean, context))
        if strategy.num_replicas_in_sync > 1:
            keep_iterator(validation)
        try:
            with strategy.scope(), _forgetting_gradients():
                model.fit(
                    training,
                    initial_epoch=done,
                    epochs=config.epochs,
                    steps_per_epoch=steps // model.steps,
                    validation_data=validation,
                    validation_steps=validation_steps(len(clean), strategy.num_replicas_in_sync),
                    callbacks=callbacks,
                    shuffle=False,  # the pipeline does
                    verbose=0 if worker else 1 if sys.stdout.isatty() else 2,
                )
        except tf.errors.UnknownError as error:  # what tf.data makes of an exception in Python, such as a file gone
            reason = re.search(r"\w+Error: .*", error.message)
            raise UserError(f"training stopped, finished epochs are kept: {reason[0] if reason else error}") from error
    if worker:
        return None, checkpoint.history
    if config.early_stopping is not None:
        checkpoint.restore_best(model)
    check_useful(model, noisy[:WATCHED], clean[:WATCHED])
    return _alone(model.network, config), checkpoint.history


def _alone(network, config):
    """Return the network, or a copy of it that nothing ties to a strategy under which it was built."""
    if network.distribute_strategy is tf.distribute.get_strategy():
        return network
    copy = build_autoencoder((None, None, config.channels))
    copy.set_weights(network.get_weights())
    return copy


@contextlib.contextmanager
def _forgetting_gradients():
    """Take what a block adds to TensorFlow's registry of gradients out of it again.

    TensorFlow never does: the custom gradient in each optimizer's compiled step keeps the whole step in memory, some
    12 MiB a training. Once the training is over, nobody asks for it.
    """
    registry = getattr(getattr(tensorflow_ops, "gradient_registry", None), "_registry", {})
    before = set(registry)
    try:
        yield
    finally:
        for name in set(registry) - before:
            del registry[name]


def compiled_model(config, mean, steps, steps_per_execution, strategy=None):
    """Return the untrained network, `InParts`, with loss and optimizer of `config`, for epochs of `steps` steps.

    `mean` is the clean images'; the network starts there, but not from a mean of 0 or 1, where it could not learn.
    `strategy` is that of `keras_dae.train.workers`; None for one device.
    """
    strategy = strategy or tf.distribute.get_strategy()
    replicas = strategy.num_replicas_in_sync
    mean = float(np.clip(mean, 0.01, 0.99))
    with strategy.scope():
        network = build_autoencoder((None, None, config.channels), config.initialization, config.seed, mean)
    # Outside the scope: within, Keras would build it from the batches of all, and fail.
    parts = parts_of(config.batch_size // replicas)
    model = Distributed(network, parts, steps_per_execution) if replicas > 1 else InParts(network, parts)
    with strategy.scope():
        model.compile(
            optimizer=keras.optimizers.Adam(learning_rate(config, steps), config.beta_1, config.beta_2),
            loss="mse",
            metrics=[psnr],
            steps_per_execution=steps_per_execution if replicas == 1 else 1,  # `Distributed` does it itself
            jit_compile=False,  # on a CPU twice slower; no strategy can
        )
        if replicas > 1:  # their variables cannot be made in the middle of a step
            model.optimizer.build(model.trainable_variables)
            images = tf.zeros((1, 1, 1, config.channels))
            strategy.run(model.compute_metrics, (images, images, images))
            model.reset_metrics()
    return model


def learning_rate(config, steps):
    """Return what Adam takes: a number, or a schedule over all steps of the training.

    The rate rises linearly from 0 in `config.warmup_steps` steps; then it stays, or falls to 0 along a half cosine
    (Loshchilov & Hutter 2017, arXiv:1608.03983, eq. 5, without restarts).
    """
    warmup = min(config.warmup_steps, steps * config.epochs - 1)
    if config.schedule == "constant" and not warmup:
        return config.learning_rate
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup else config.learning_rate,
        decay_steps=steps * config.epochs - warmup,
        alpha=0.0 if config.schedule == "cosine" else 1.0,
        warmup_target=config.learning_rate if warmup else None,
        warmup_steps=warmup,
    )
