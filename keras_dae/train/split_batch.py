"""Training on all cores of a processor: each batch is split into micro-batches, which are computed at the same time.

Small convolutions like these get slower when several cores share each of them. On two cores, a training step with two
micro-batches takes two thirds of the time.
"""

import itertools

import keras
import tensorflow as tf

from keras_dae._util.threads import cores

MIN_IMAGES = 16  # in a micro-batch


def micro_batch_count(batch_size: int) -> int:
    """Return how many micro-batches to split batches of `batch_size` images into: one per core, or 1 with a GPU."""
    if tf.config.list_physical_devices("GPU"):
        return 1
    return max(1, min(cores(), batch_size // MIN_IMAGES))


class SplitBatch(keras.Model):
    """Trains a network on micro-batches that do not wait for each other. Its weights are the network's.

    Args:
        network: model from images to images, float32 `(batch, height, width, channels)`.
        micro_batches: number of micro-batches per training batch; a training batch needs at least as many images.
            Batches for validation and prediction are not split.

    Attributes:
        steps_per_keras_step: training steps per Keras step, that is per call of the train function.
    """

    steps_per_keras_step = 1

    def __init__(self, network: keras.Model, micro_batches: int):
        super().__init__()
        self.network, self.micro_batches = network, micro_batches

    def train_step(self, data):
        # Keras's optimizers add up the gradients of all devices, even of one, with a custom gradient. TensorFlow keeps
        # its graph for ever, about 12 MiB per training. In cross-replica context, the optimizers leave that out.
        step, context = super().train_step, tf.distribute.get_replica_context()
        if tf.distribute.has_strategy():
            return step(data)
        return context.merge_call(lambda strategy, data: step(data), args=(data,))

    def call(self, noisy, training=False):
        if self.micro_batches == 1 or not training:
            return self.network(noisy)
        images = tf.shape(noisy)[0]
        edges = [images * index // self.micro_batches for index in range(self.micro_batches + 1)]
        return tf.concat([self.network(noisy[start:end]) for start, end in itertools.pairwise(edges)], axis=0)
