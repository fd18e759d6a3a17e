"""Training on several devices: what Keras does for each step, done for each execution."""

import tensorflow as tf

from keras_dae.train.split_batch import InParts


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
