"""Training on all cores of a processor: a batch in parts at the same time, one core each.

Convolutions as small as these lose time when cores share each of them: on two cores, a training step in halves takes
two thirds of the time.
"""

import itertools

import keras
import tensorflow as tf

from keras_dae._util.threads import cores

MIN_IMAGES = 16  # in a part


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
    return max(1, min(cores(), batch_size // MIN_IMAGES))


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
