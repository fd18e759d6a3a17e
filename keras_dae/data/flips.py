"""Training images turned and mirrored at random."""

from collections.abc import Sequence

import tensorflow as tf


def flipped(batches: Sequence[tf.Tensor], seed: tf.Tensor) -> list[tf.Tensor]:
    """Return each image in one of its 8 positions, turned and mirrored, or of 4 if it is not square.

    Args:
        batches: tensors `(batch, height, width, channels)` of one shape. Images with the same number, such as a clean
            and a noisy one, get the same position.
        seed: integer tensor `(2,)`; the same seed gives the same positions.
    """
    shape = batches[0].shape
    count = tf.shape(batches[0])[0]
    upside_down, mirrored, transposed = tf.unstack(
        tf.random.stateless_uniform((3, count, 1, 1, 1), seed, 0, 2, tf.int32, alg="philox") == 1
    )
    turned = []
    for images in batches:
        images = tf.where(upside_down, tf.reverse(images, [1]), images)
        images = tf.where(mirrored, tf.reverse(images, [2]), images)
        if shape[1] == shape[2]:
            images = tf.where(transposed, tf.transpose(images, (0, 2, 1, 3)), images)
        turned.append(images)
    return turned
