"""Training on several workers and GPUs: who this worker is, how the workers start, and what they must agree on.

A worker is a process that the environment variable TF_CONFIG names. Its rank is its position there. The worker with
rank 0 is the chief: it alone keeps checkpoints and writes the run. At the start, the others receive the chief's state,
so all workers always continue from the same epoch.
"""

import contextlib
import faulthandler
import functools
import json
import os
import re
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from keras_dae._util.threads import cores
from keras_dae.errors import UserError, first_line

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from keras_dae.train.checkpoint import Checkpoint

JOIN_TIMEOUT = 50  # seconds that a worker waits for the others to start
TF_CONFIG_EXAMPLE = '{"cluster": {"worker": ["host:port", "host:port"]}, "task": {"type": "worker", "index": 0}}'


class WorkerLost(UserError):
    """Another worker ended or cannot be reached. The message of that worker says why."""

    status = 1


def rank_and_count() -> tuple[int, int]:
    """Return this process's rank among the workers of TF_CONFIG, and their number; (0, 1) if there is only one.

    Raises:
        UserError: TF_CONFIG is not in TensorFlow's format, or this process is neither chief nor worker.
    """
    text = os.environ.get("TF_CONFIG", "").strip()
    try:
        config = json.loads(text or "{}")
        cluster, task = config.get("cluster", {}), config.get("task", {})
        addresses = {(job, index): address for job, hosts in cluster.items() for index, address in enumerate(hosts)}
        tasks = sorted(addresses)  # `chief` comes before `worker`
        usable = all(job in ("chief", "worker") and re.fullmatch(r".+:\d+", addresses[job, i]) for job, i in tasks)
        usable &= len(set(addresses.values())) == len(tasks) and len(cluster.get("chief", ())) < 2
        if not usable:
            raise ValueError
        return (tasks.index((task["type"], int(task["index"]))), len(tasks)) if len(tasks) > 1 else (0, 1)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise UserError(f"expected TF_CONFIG to be like {TF_CONFIG_EXAMPLE}, got {text}") from None


def strategy() -> "tf.distribute.Strategy":
    """Return the strategy for all workers, or for all GPUs of this machine, or for a single device.

    Raises:
        UserError: see `join_cluster`.
    """
    import tensorflow as tf

    if rank_and_count()[1] > 1:
        return join_cluster(JOIN_TIMEOUT)
    devices = gpus()
    return tf.distribute.MirroredStrategy(devices) if len(devices) > 1 else tf.distribute.get_strategy()


def gpus() -> list[str]:
    """Return the names of this machine's GPUs."""
    import tensorflow as tf

    return [device.name for device in tf.config.list_logical_devices("GPU")]


def describe_devices() -> str:
    """Return what this process trains on: GPUs with their names, or the CPU with its cores."""
    import tensorflow as tf

    devices = tf.config.get_visible_devices("GPU")
    if not devices:
        return f"the CPU ({cores()} cores); TensorFlow sees no GPU"
    names = {tf.config.experimental.get_device_details(device).get("device_name", "unnamed") for device in devices}
    return f"{len(devices)} GPU{'s' if len(devices) > 1 else ''} ({', '.join(sorted(names))})"


@functools.cache  # a process can join only once
def join_cluster(timeout: float) -> "tf.distribute.Strategy":
    """Wait until all workers of TF_CONFIG have started; return their strategy.

    If they do not all start within `timeout` seconds, this process exits with status 1. TensorFlow would wait for an
    hour, and meanwhile neither signal handlers nor other threads of Python run. For the same reason, SIGINT and SIGTERM
    end the process at once while it waits.

    Raises:
        UserError: this worker cannot listen on its address.
    """
    import tensorflow as tf

    rank, count = rank_and_count()
    print(f"worker {rank} of {count}: exits with status 1 unless all start within {timeout} seconds", flush=True)
    with default_signal_handlers(), exit_unless_done_within(timeout):
        try:
            return tf.distribute.MultiWorkerMirroredStrategy()
        except tf.errors.OpError as error:
            raise UserError(
                f"cannot join the other workers of TF_CONFIG: {first_line(error.message)}; is its own port free?"
            ) from None


@contextlib.contextmanager
def exit_unless_done_within(seconds: float) -> Iterator[None]:
    """Exit with status 1 unless the block ends within so many seconds.

    The timer of `faulthandler` is a thread in C: it works even while a call into TensorFlow keeps Python from running.
    """
    with open(os.devnull, "w") as discarded:  # for the traceback that `faulthandler` writes
        faulthandler.dump_traceback_later(seconds, exit=True, file=discarded)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()


@contextlib.contextmanager
def default_signal_handlers() -> Iterator[None]:
    """Let SIGINT and SIGTERM end the process during the block; restore their handlers after it.

    This also undoes what TensorFlow does: it replaces the handler of SIGTERM when it joins a cluster.
    """
    numbers = (signal.SIGINT, signal.SIGTERM)
    handlers = [signal.signal(number, signal.SIG_DFL) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, handlers):
            signal.signal(number, handler)


@contextlib.contextmanager
def raising_worker_lost() -> Iterator[None]:
    """Turn the errors that TensorFlow raises in the block after another worker ended into `WorkerLost`."""
    import tensorflow as tf

    errors = tf.errors
    lost = (errors.UnavailableError, errors.AbortedError, errors.CancelledError, errors.DeadlineExceededError)
    try:
        yield
    except lost as error:
        if rank_and_count()[1] == 1:
            raise
        raise WorkerLost(
            "another worker has ended, or cannot be reached; its own message says why. Start all workers again with "
            "the same command: they continue after the last finished epoch"
        ) from error


def gather(strategy: "tf.distribute.Strategy", message: Any) -> list[Any]:
    """Return the messages of all workers, ordered by rank. Each worker must call this with a JSON-ready message."""
    import tensorflow as tf

    rank, count = rank_and_count()
    if count == 1:
        return [message]
    line = json.dumps([rank, message]).encode() + b"\n"
    # As float32, the only type that all kinds of devices can gather. It holds every byte exactly.
    lines = strategy.gather(tf.constant(list(line), tf.float32), axis=0)
    return [message for _, message in sorted(map(json.loads, bytes(lines.numpy().astype("uint8")).splitlines()))]


def check_same(strategy: "tf.distribute.Strategy", settings: dict[str, Any]) -> None:
    """Raise `UserError` on every worker unless `settings` is the same on all workers."""
    for rank, other in enumerate(gather(strategy, settings)):
        if different := [name for name in other if other[name] != settings.get(name)]:
            here, there = (", ".join(f"{name} {one.get(name)}" for name in different) for one in (settings, other))
            raise UserError(f"expected the same on all workers, got {here} here and {there} on worker {rank}")


def check_batch_size(strategy: "tf.distribute.Strategy", batch_size: int) -> None:
    """Raise `UserError` unless a batch gives every device of every worker the same number of images, at least 1."""
    replicas = strategy.num_replicas_in_sync
    if not batch_size or batch_size % replicas:
        nearest = max(1, round(batch_size / replicas)) * replicas
        raise UserError(
            f"expected a batch size that is a multiple of the {replicas} devices, got {batch_size} images; give "
            f"--batch-size {nearest}, and at least as many images"
        )


def resume_from_chief(strategy: "tf.distribute.Strategy", model: "keras.Model", checkpoint: "Checkpoint") -> int:
    """Give all workers the chief's history, weights and optimizer state. Return the number of epochs done."""
    checkpoint.history = gather(strategy, checkpoint.history)[0]
    if checkpoint.history and rank_and_count()[1] > 1:
        with strategy.scope():
            model.optimizer.build(model.trainable_variables)
            for variable in (*model.variables, *model.optimizer.variables):
                broadcast_from_chief(variable)
    return len(checkpoint.history)


def broadcast_from_chief(variable: "keras.Variable") -> None:
    """Give a variable the value that it has on the chief. All workers must call this in the scope of their strategy.

    TensorFlow does the sending: when a `tf.Variable` is created under `MultiWorkerMirroredStrategy`, its initial value
    is broadcast from the chief to all workers (`_get_variable_creator_initial_value` in
    tensorflow/python/distribute/collective_all_reduce_strategy.py). So this creates a temporary variable and reads it.
    """
    import tensorflow as tf

    variable.assign(tf.Variable(variable.numpy()).numpy())
