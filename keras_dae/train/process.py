"""What a training sets in its whole process. The commands do that; a library call does it only if it is asked to."""

import sys

import tensorflow as tf

from keras_dae._util.threads import cores


def set_up_tensorflow() -> None:
    """Let TensorFlow run each operation on one core, as many at a time as there are cores, and deterministically.

    Small convolutions get slower when several cores share each of them, and the bits of their gradients depend on the
    number of cores that do. TensorFlow cannot undo any of this. It cannot change the threads either once it has run an
    operation in this process; a line on stderr says so.

    Example::

        from keras_dae import train_and_evaluate
        from keras_dae.train.process import set_up_tensorflow

        set_up_tensorflow()  # the bits of `python -m keras_dae.train`, and its speed
        train_and_evaluate(config, "saved_models/again")
    """
    tf.config.experimental.enable_op_determinism()
    try:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(cores())
    except RuntimeError:
        if threads_per_operation() != 1:
            print(
                "TensorFlow has already run in this process with several threads per operation: the training is "
                "slower, and its bits are not those of the command",
                file=sys.stderr,
            )


def threads_per_operation() -> int:
    """Return the number of threads that TensorFlow gives an operation in this process; 0 if it decides."""
    return tf.config.threading.get_intra_op_parallelism_threads()
