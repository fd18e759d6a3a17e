"""A batch split into micro-batches gives the same as the whole batch."""

import keras
import numpy as np
import pytest

from keras_dae.networks.autoencoder import build_autoencoder
from keras_dae.train import split_batch
from keras_dae.train.split_batch import SplitBatch, micro_batch_count


@pytest.fixture(scope="module")
def network():
    return build_autoencoder(seed=0)


@pytest.mark.parametrize(("batch", "training"), [(1, False), (3, True), (5, True)])
def test_same_images(network, batch, training):
    noisy = np.random.default_rng(0).random((batch, 20, 24, 1), np.float32)
    np.testing.assert_allclose(SplitBatch(network, 3)(noisy, training=training), network(noisy), atol=1e-6)


def test_same_training(network):
    images = np.random.default_rng(0).random((12, 20, 20, 1), np.float32)
    trained = []
    for count in (1, 2):
        copy = keras.models.clone_model(network)
        copy.set_weights(network.get_weights())
        model = SplitBatch(copy, count)
        model.compile(keras.optimizers.SGD(1.0), "mse")
        model.fit(images, images, batch_size=6, epochs=2, shuffle=False, verbose=0)
        trained.append(copy.get_weights())
    for whole, halves, before in zip(*trained, network.get_weights()):
        np.testing.assert_allclose(halves, whole, atol=1e-6)
        assert not np.array_equal(whole, before)


def test_one_micro_batch_per_core_but_none_of_a_few_images(monkeypatch):
    monkeypatch.setattr(split_batch, "cores", lambda: 4)
    assert [micro_batch_count(size) for size in (4, 31, 32, 64, 100)] == [1, 1, 2, 4, 4]
