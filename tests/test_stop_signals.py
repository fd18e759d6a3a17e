"""A process that is asked to stop stops, also if code in C swallows the exception."""

import os
import signal

import pytest

from keras_dae._util import stop_signals
from keras_dae.train.callbacks import StopWhenAsked


@pytest.fixture(autouse=True)
def handlers():
    """The handlers of a program that was just started, and afterwards those of the tests."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    stop_signals._asked.clear()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_swallowed_signal_ends_the_training_at_its_next_step(number):
    stop_signals.catch_stop_signals()
    callback = StopWhenAsked()
    callback.on_train_batch_end(0)
    callback.on_epoch_end(0)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), number)  # swallowed here
    for step in (callback.on_train_batch_end, callback.on_epoch_end):
        with pytest.raises(KeyboardInterrupt):
            step(1)
    stop_signals.catch_stop_signals()  # the next command
    callback.on_train_batch_end(0)


def test_an_ignored_sigint_stays_ignored():
    """As it is in a job that a shell has started in the background."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stop_signals.catch_stop_signals()
    os.kill(os.getpid(), signal.SIGINT)
    stop_signals.check_stop_signals()
