"""Training on several devices: where it differs from what Keras does.

After each step, Keras averages the logs of all devices (`reduce_per_replica` in
keras/src/backend/tensorflow/trainer.py). With several workers this raises "ValueError: Invalid reduction dimension 0
for input with 0 dimensions" in Keras 3.15, because a log is a scalar
(https://github.com/keras-team/keras/issues/20585, https://github.com/tensorflow/tensorflow/issues/72388). Even if it
worked, it would take longer than the exchange of the gradients, and Keras cannot run several steps per execution on
several devices. So `Distributed` runs several
training steps per execution, between which no Python runs; that alone halves the time. The logs of a step are those
of this worker's first device. The metrics of all devices are added up only once, at the end of an epoch.
"""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_dae.train.split_batch import SplitBatch


class Distributed(SplitBatch):
    """`SplitBatch` on several devices.

    Args:
        network, micro_batches: see `SplitBatch`; `micro_batches` is per device.
        steps: training steps per Keras step.
    """

    def __init__(self, network: keras.Model, micro_batches: int, steps: int):
        super().__init__(network, micro_batches)
        self.steps_per_keras_step = steps
        reset_one_device, result_of_one_device = super().reset_metrics, super().get_metrics_result
        self._validation: Any = None
        self._reset_all_devices = tf.function(lambda: self.distribute_strategy.run(reset_one_device))
        self._result_of_all_devices = tf.function(result_of_one_device)

    def reset_metrics(self):
        self._reset_all_devices()

    def get_metrics_result(self):
        # Keras calls this on each device at the end of a step, and once outside of all devices at the end of an epoch.
        if tf.distribute.in_cross_replica_context():
            return self._result_of_all_devices()  # TensorFlow adds up the metrics' variables when it reads them
        return super().get_metrics_result()

    def evaluate(self, x=None, *, steps=1, callbacks=None, **options):
        """Return name -> mean over `steps` batches of the first `x` that this got; each call goes on where it stopped.

        Keras takes a new iterator for each validation, and it takes up to seconds to dispose of the old one.
        """
        if self._validation is None:
            self._validation = iter(x)
        self.make_test_function()
        self.reset_metrics()
        callbacks.on_test_begin()
        for _ in range(steps):
            self.test_function(self._validation)
        logs = {name: float(value) for name, value in self.get_metrics_result().items()}
        callbacks.on_test_end(logs)
        return logs

    # Keras calls these two once, then `train_function(iterator)` and `test_function(iterator)` for each step. They are
    # public, but not documented; `tests/test_workers.py` compares the result with that of Keras on one device.
    def make_train_function(self, force=False):
        if self.train_function is None or force:
            self.train_function = self._on_all_devices(self.train_step, self.steps_per_keras_step)

    def make_test_function(self, force=False):
        if self.test_function is None or force:
            self.test_function = self._on_all_devices(self.test_step, 1)

    def _on_all_devices(self, step: Callable, count: int) -> Callable:
        """Return a function that runs a step `count` times on all devices, and returns the logs of the last one."""
        strategy = self.distribute_strategy

        @tf.function
        def run_steps(iterator):
            for _ in tf.range(count - 1):
                strategy.run(step, args=(next(iterator),))
            logs = strategy.run(step, args=(next(iterator),))
            return {name: strategy.experimental_local_results(value)[0] for name, value in logs.items()}

        return run_steps
