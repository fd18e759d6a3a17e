"""Training on all cores of a processor: a batch in parts at the same time, one core each.

Convolutions as small as these lose time when cores share each of them: on two cores, a training step in halves takes
two thirds of the time.
"""

import itertools

import keras
import tensorflow as tf

from keras_dae.processes import cores

LEAST_IMAGES = 16  # in a part


def use_cores_apart():
    """Let TensorFlow give each operation one core, and run as many at a time as there are cores.

    A process that has used TensorFlow before keeps its ways: results are the same then, but they take longer.
    """
    try:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(cores())
    except RuntimeError:
        return


def parts_of(batch_size):
    """Return the number of parts for batches of `batch_size` images: one a core, or one alone where there is a GPU."""
    if tf.config.list_physical_devices("GPU"):
        return 1
    return max(1, min(cores(), batch_size // LEAST_IMAGES))


class InParts(keras.Model):
    """A network that is trained on parts of a batch, which do not wait for each other; its weights are the network's.

    Args:
        network: `keras.Model` from images to images, `(batch, height, width, channels)`.
        parts: how many; a batch to train on has at least as many images. Where nothing is trained, it stays whole.

    Attributes:
        steps: that are done in what Keras takes for one.
    """

    steps = 1

    def __init__(self, network, parts):
        super().__init__()
        self.network, self.parts = network, parts

    def call(self, noisy, training=False):
        if self.parts == 1 or not training:
            return self.network(noisy)
        images = tf.shape(noisy)[0]
        edges = [images * part // self.parts for part in range(self.parts + 1)]
        return tf.concat([self.network(noisy[start:end]) for start, end in itertools.pairwise(edges)], axis=0)


class Distributed(InParts):
    """The same on several devices: each step's logs are the worker's own, the epoch's are of all.

    Keras would average the logs of all workers at every step (in a way that fails), which takes longer than to
    exchange the gradients. Nor can it do several steps at once on several devices; here, what Keras takes for a step
    to train is `steps` of them, between which no Python runs: that is half of the time.
    """

    def __init__(self, network, parts, steps):
        super().__init__(network, parts)
        self.steps = steps
        self._reset_all = tf.function(lambda: self.distribute_strategy.run(super(Distributed, self).reset_metrics))
        self._results_of_all = tf.function(super().get_metrics_result)

    def reset_metrics(self):
        self._reset_all()

    def get_metrics_result(self):
        if tf.distribute.in_cross_replica_context():
            return self._results_of_all()
        return super().get_metrics_result()

    def make_train_function(self, force=False):
        if self.train_function is None or force:
            self.train_function = self._distributed(self.train_step, self.steps)

    def make_test_function(self, force=False):
        if self.test_function is None or force:
            self.test_function = self._distributed(self.test_step, 1)

    def _distributed(self, step, count):
        strategy = self.distribute_strategy

        @tf.function
        def steps(iterator):
            for _ in tf.range(count - 1):
                strategy.run(step, args=(next(iterator),))
            logs = strategy.run(step, args=(next(iterator),))
            return {name: strategy.experimental_local_results(value)[0] for name, value in logs.items()}

        return steps


def keep_iterator(dataset):
    """Let a distributed dataset without end go on, whenever it is iterated over, where it was left.

    Keras takes a new iterator for each validation; to be rid of the old one takes up to seconds.
    """
    iterator = iter(dataset)
    dataset.__class__ = type("Going", (type(dataset),), {"__iter__": lambda _: iterator})
