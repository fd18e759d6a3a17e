"""The training itself: `model.fit`, resumable and bitwise reproducible for a given seed."""

import os
import sys
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_dae.config import LOCATION_FIELDS, TrainConfig
from keras_dae.data.batches import epoch_plan, evaluation_images, training_batches, validation_batches, validation_steps
from keras_dae.data.splits import DatasetSplits
from keras_dae.metrics import psnr
from keras_dae.networks import build_network
from keras_dae.networks.keras_settings import check_backend, standard_settings
from keras_dae.runs.folder import run_description
from keras_dae.train import workers
from keras_dae.train.average import ValidateAverage
from keras_dae.train.callbacks import EarlyStopping, StopIfUseless, StopWhenAsked, Throughput, check_useful
from keras_dae.train.checkpoint import Checkpoint, HistoryRow
from keras_dae.train.distributed import Distributed
from keras_dae.train.judgement import check_not_constant, fitted_to_length, print_differences
from keras_dae.train.process import threads_per_operation
from keras_dae.train.split_batch import SplitBatch, micro_batch_count
from keras_dae.train.tensorflow_errors import in_one_line

WATCHED = 100  # validation images with which `check_useful` looks for a collapse


@in_one_line()
@workers.raising_worker_lost()
@standard_settings()
def fit(
    config: TrainConfig,
    dataset: DatasetSplits,
    checkpoint_dir: str | os.PathLike | None,
    tensorboard: str | os.PathLike | None = None,
) -> tuple[keras.Model | None, list[HistoryRow]]:
    """Train, or continue from a checkpoint if there is one; return the trained network and one history row per epoch.

    Args:
        config: `TrainConfig`.
        dataset: the images to train on and to validate with.
        checkpoint_dir: folder of the checkpoints; None on a worker that is not the chief. Such a worker returns None
            as its network.
        tensorboard: folder for TensorBoard's event files, or None.

    Raises:
        UserError: Keras does not run on TensorFlow, all images are one colour, the training diverged or collapsed,
            images can no longer be read, the memory is not enough, a checkpoint cannot be written, or another worker
            has different settings or has ended.
    """
    check_backend()
    check_not_constant(dataset)
    strategy = workers.strategy()
    rank, worker_count = workers.rank_and_count()
    if rank == 0:
        print(f"training on {workers.describe_devices()}")
    _check_same_training(config, dataset, strategy)
    noisy, clean = evaluation_images(dataset.validation, config)
    plan = epoch_plan(dataset.train, config, worker_count)
    workers.check_batch_size(strategy, plan.batch_size)
    asked, config = config, fitted_to_length(config, plan.steps)
    if rank == 0:
        print_differences(asked, config, plan.steps * config.epochs)
    model = compiled_model(config, clean.mean(), plan.steps, plan.steps_per_execution, strategy)
    checkpoint = Checkpoint(checkpoint_dir, keep_best=config.early_stopping is not None)
    checkpoint.restore(model)
    epochs_done = workers.resume_from_chief(strategy, model, checkpoint)
    if epochs_done:
        print(f"continuing after epoch {epochs_done} of {config.epochs}")
    early_stopping = EarlyStopping(config.early_stopping or config.epochs, checkpoint)
    if epochs_done < config.epochs and not early_stopping.is_over():
        callbacks = [
            Throughput(plan.batch_size * model.steps_per_keras_step),
            StopIfUseless(noisy[:WATCHED], clean[:WATCHED]),
            checkpoint,
            early_stopping,
            StopWhenAsked(),
        ]
        if tensorboard and rank == 0:
            logs = keras.callbacks.TensorBoard(str(tensorboard), write_graph=False)
            callbacks.insert(1, logs)  # after Throughput, whose figures it logs
        if config.average is not None:
            callbacks.insert(0, ValidateAverage())
        distribute = strategy.distribute_datasets_from_function
        training = distribute(lambda context: training_batches(dataset.train, config, epochs_done, context))
        validation = distribute(lambda context: validation_batches(noisy, clean, context))
        with strategy.scope():
            model.fit(
                training,
                initial_epoch=epochs_done,
                epochs=config.epochs,
                steps_per_epoch=plan.steps // model.steps_per_keras_step,
                validation_data=validation,
                validation_steps=validation_steps(len(clean), strategy.num_replicas_in_sync),
                callbacks=callbacks,
                shuffle=False,  # `training_batches` shuffles
                verbose=0 if rank else 1 if sys.stdout.isatty() else 2,
            )
    if rank:
        return None, checkpoint.history
    if config.average is not None:
        model.optimizer.finalize_variable_values(model.trainable_variables)
    if config.early_stopping is not None:
        checkpoint.restore_best(model)
    check_useful(model, noisy[:WATCHED], clean[:WATCHED])
    return _without_strategy(model.network, config), checkpoint.history


def conditions(config: TrainConfig, dataset: DatasetSplits) -> dict[str, Any]:
    """Return what the bits of a training depend on besides options, images and versions: name -> value for JSON.

    They also depend on the kind of processor, which is not listed.
    """
    worker_count = workers.rank_and_count()[1]
    steps = epoch_plan(dataset.train, config, worker_count).steps
    return {
        "workers": worker_count,
        "steps": steps * config.epochs,
        "warmup_steps": fitted_to_length(config, steps).warmup_steps,
        "average": fitted_to_length(config, steps).average,
        "threads_per_operation": threads_per_operation(),
        "micro_batches": micro_batch_count(config.batch_size // worker_count),
    }


def compiled_model(
    config: TrainConfig,
    mean: float,
    steps: int,
    steps_per_execution: int,
    strategy: tf.distribute.Strategy | None = None,
) -> SplitBatch:
    """Return the untrained network as a `SplitBatch` model, compiled with loss and optimizer.

    Args:
        config: `TrainConfig`.
        mean: mean of the clean images, in [0, 1]. The network's output starts there, but stays away from 0 and 1, where
            the gradient of the sigmoid vanishes.
        steps: training steps per epoch.
        steps_per_execution: training steps that TensorFlow runs at once.
        strategy: what `keras_dae.train.workers.strategy` returns; None for one device.
    """
    strategy = strategy or tf.distribute.get_strategy()
    replicas = strategy.num_replicas_in_sync
    mean = float(np.clip(mean, 0.01, 0.99))
    with strategy.scope():
        network = build_network(config.network, (None, None, config.channels), config.initialization, config.seed, mean)
    # Outside the scope: inside, Keras would build the model from a distributed batch, which fails.
    micro_batches = micro_batch_count(config.batch_size // replicas)
    if replicas > 1:
        model = Distributed(network, micro_batches, steps_per_execution)
    else:
        model = SplitBatch(network, micro_batches)
    with strategy.scope():
        model.compile(
            optimizer=keras.optimizers.Adam(
                learning_rate(config, steps),
                config.beta_1,
                config.beta_2,
                global_clipnorm=config.clip_norm,
                use_ema=config.average is not None,
                ema_momentum=config.average or 0.99,
            ),
            loss="mae" if config.loss == "l1" else config.loss,
            metrics=[psnr],
            steps_per_execution=steps_per_execution if replicas == 1 else 1,  # `Distributed` runs several by itself
            jit_compile=False,  # XLA is half as fast on a CPU, and strategies do not support it
        )
        if replicas > 1:  # inside a step, no variables can be created
            model.optimizer.build(model.trainable_variables)
            images = tf.zeros((1, 1, 1, config.channels))
            strategy.run(model.compute_metrics, (images, images, images))
            model.reset_metrics()
    return model


def learning_rate(config: TrainConfig, steps: int) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """Return the learning rate for Adam: a number, or a schedule over all steps of the training.

    The rate rises linearly from 0 during `config.warmup_steps` steps. Then it stays constant, or falls to 0 along a
    half cosine (Loshchilov & Hutter 2017, arXiv:1608.03983, eq. 5, without restarts).

    Args:
        config: `TrainConfig`.
        steps: training steps per epoch.
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


def _check_same_training(config: TrainConfig, dataset: DatasetSplits, strategy: tf.distribute.Strategy) -> None:
    """Raise `UserError` unless all workers have the same options, images and versions of packages."""
    description = run_description(config, dataset)
    options = {name: value for name, value in description["config"].items() if name not in LOCATION_FIELDS}
    workers.check_same(strategy, {**options, **description["versions"], "images": dataset.sha256})


def _without_strategy(network: keras.Model, config: TrainConfig) -> keras.Model:
    """Return the network, or a copy if the network was built under a strategy, to which it would stay bound."""
    if network.distribute_strategy is tf.distribute.get_strategy():
        return network
    copy = build_network(config.network, (None, None, config.channels))
    copy.set_weights(network.get_weights())
    return copy
