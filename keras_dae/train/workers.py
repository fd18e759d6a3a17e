"""Several GPUs and several machines: TensorFlow's own strategies, and what the workers of a training agree on.

A worker is a process that the environment variable TF_CONFIG names; worker 0 is the chief, which alone keeps
checkpoints and writes the run. The others are given its state when all start, so that no two can ever be apart.
"""

import contextlib
import faulthandler
import functools
import json
import os
import re
import signal

from keras_dae.errors import UserError, first_line

PATIENCE = 50  # seconds that a worker waits for all others to start; one that was killed meanwhile never does
EXAMPLE = '{"cluster": {"worker": ["host:port", "host:port"]}, "task": {"type": "worker", "index": 0}}'


class WorkerLost(UserError):
    """Another worker ended, or can no longer be reached; what it was, its own message says."""

    status = 1


def place():
    """Return `(worker, workers)`: this process's number among those that TF_CONFIG names; (0, 1) where it names none.

    Raises:
        UserError: TF_CONFIG is not as TensorFlow wants it, or this process is neither chief nor worker.
    """
    text = os.environ.get("TF_CONFIG", "").strip()
    try:
        config = json.loads(text or "{}")
        cluster, task = config.get("cluster", {}), config.get("task", {})
        tasks = {(job, index): address for job, all_ in cluster.items() for index, address in enumerate(all_)}
        names = sorted(tasks)  # `chief` comes before `worker`
        usable = all(job in ("chief", "worker") and re.fullmatch(r".+:\d+", tasks[job, i]) for job, i in names)
        usable &= len(set(tasks.values())) == len(tasks) and len(cluster.get("chief", ())) < 2
        if not usable:
            raise ValueError
        return (names.index((task["type"], int(task["index"]))), len(names)) if len(names) > 1 else (0, 1)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise UserError(f"expected TF_CONFIG to be like {EXAMPLE}, got {text}") from None


def strategy():
    """Return the `tf.distribute.Strategy` for what there is: several workers, several GPUs, or neither."""
    import tensorflow as tf

    if place()[1] > 1:
        return join()
    devices = gpus()
    return tf.distribute.MirroredStrategy(devices) if len(devices) > 1 else tf.distribute.get_strategy()


def gpus():
    """Return the names of this machine's GPUs."""
    import tensorflow as tf

    return [device.name for device in tf.config.list_logical_devices("GPU")]


@functools.cache
def join():
    """Wait until all workers of TF_CONFIG are there; return their strategy. A process can do so once.

    Where not all come within PATIENCE seconds, the process ends with status 1.

    Raises:
        UserError: this worker's address cannot be used.
    """
    import tensorflow as tf

    from keras_dae.train.split_batch import use_cores_apart

    use_cores_apart()
    worker, count = place()
    # The last word, should they not come.
    print(f"worker {worker} of {count}: ends here unless all others start within {PATIENCE} seconds", flush=True)
    # TensorFlow would wait for an hour, and meanwhile neither signals nor other threads reach Python.
    signals = (signal.SIGINT, signal.SIGTERM)
    handlers = [signal.signal(number, signal.SIG_DFL) for number in signals]
    with open(os.devnull, "w") as nowhere:
        faulthandler.dump_traceback_later(PATIENCE, exit=True, file=nowhere)
        try:
            return tf.distribute.MultiWorkerMirroredStrategy()
        except tf.errors.OpError as error:
            raise UserError(
                f"cannot join the other workers of TF_CONFIG: {first_line(error.message)}; is its own port free?"
            ) from None
        finally:
            faulthandler.cancel_dump_traceback_later()
            for number, handler in zip(signals, handlers):  # TensorFlow takes SIGTERM for itself
                signal.signal(number, handler)


@contextlib.contextmanager
def together():
    """Turn what TensorFlow raises in a block when another worker has ended into one line."""
    import tensorflow as tf

    errors = tf.errors
    lost = (errors.UnavailableError, errors.AbortedError, errors.CancelledError, errors.DeadlineExceededError)
    try:
        yield
    except lost as error:
        if place()[1] == 1:
            raise
        raise WorkerLost(
            "another worker has ended, or cannot be reached; its own message says why. Start all of them again with "
            "the same command: they go on from the last whole epoch"
        ) from error


def gather(strategy, message):
    """Return what each worker gives as `message`, in their order: anything that JSON can hold."""
    import tensorflow as tf

    worker, workers = place()
    if workers == 1:
        return [message]
    line = json.dumps([worker, message]).encode() + b"\n"
    # float32, because there is nothing that all devices gather, but floats.
    lines = strategy.gather(tf.constant(list(line), tf.float32), axis=0)
    return [message for _, message in sorted(map(json.loads, bytes(lines.numpy().astype("uint8")).splitlines()))]


def check_same(strategy, about):
    """Raise `UserError` on every worker unless `about`, a dict, is the same on all."""
    for worker, other in enumerate(gather(strategy, about)):
        if different := [name for name in other if other[name] != about.get(name)]:
            here, there = (", ".join(f"{name} {one.get(name)}" for name in different) for one in (about, other))
            raise UserError(f"expected the same on all workers, got {here} here and {there} on worker {worker}")


def check_batch(strategy, batch_size):
    """Raise `UserError` unless all devices of all workers get the same number, at least 1, of a batch's images."""
    replicas = strategy.num_replicas_in_sync
    if not batch_size or batch_size % replicas:
        nearest = max(1, round(batch_size / replicas)) * replicas
        raise UserError(
            f"expected a batch that {replicas} devices can share evenly, got {batch_size} images; give "
            f"--batch-size {nearest}, and at least as many images"
        )


def go_on_with_chief(strategy, model, checkpoint):
    """Give all workers the chief's history, and the values of its weights and optimizer; return the epochs done."""
    import tensorflow as tf

    checkpoint.history = gather(strategy, checkpoint.history)[0]
    if checkpoint.history and place()[1] > 1:
        with strategy.scope():
            model.optimizer.build(model.trainable_variables)
            for variable in (*model.variables, *model.optimizer.variables):
                # TensorFlow itself sends a new variable's first value from the chief to all.
                variable.assign(tf.Variable(variable.numpy()).numpy())
    return len(checkpoint.history)
