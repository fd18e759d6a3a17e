"""The geometry that is computed from the layers, against the Keras network itself."""

import numpy as np
import pytest
import tensorflow as tf

from keras_dae.errors import UserError
from keras_dae.networks.autoencoder import build_autoencoder
from keras_dae.networks.geometry import AUTOENCODER


@pytest.fixture(scope="module")
def positive_network():
    """A network with positive weights, so that no ReLU hides a dependence.

    Each layer averages its inputs, so that the final sigmoid is far from saturation.
    """
    model = build_autoencoder(seed=0)
    weights = model.get_weights()
    for index in range(0, len(weights), 2):
        fan_in = weights[index].size / max(weights[index + 1].size, 1)
        weights[index], weights[index + 1] = np.full_like(weights[index], 1 / fan_in), 0 * weights[index + 1]
    model.set_weights(weights)
    return model


def rounded_up(size):
    return -(-size // AUTOENCODER.multiple) * AUTOENCODER.multiple


@pytest.mark.parametrize("size", range(AUTOENCODER.min_size, 65))
def test_output_size(positive_network, size):
    height, width = size, 64 + AUTOENCODER.min_size - size
    shape = positive_network(np.zeros((1, height, width, 1), np.float32)).shape
    assert tuple(shape) == (1, rounded_up(height), rounded_up(width), 1)
    sizes = [size]
    for layer in AUTOENCODER.layers:
        sizes.append(layer.output_size(sizes[-1]))
    assert sizes[-1] == rounded_up(size)
    assert AUTOENCODER.padded_size(size) == max(rounded_up(size), AUTOENCODER.min_padded_size)


def test_sizes_between_the_layers(positive_network):
    for size in (AUTOENCODER.min_size, 28, 45):
        model = build_autoencoder((size, size, 1))
        for layer in AUTOENCODER.layers:
            size = layer.output_size(size)
            assert model.get_layer(layer.name).output.shape[1:3] == (size, size)


def test_min_size(positive_network):
    """With one pixel less in either direction, the network sees nothing of the image."""
    smallest, less = AUTOENCODER.min_size, AUTOENCODER.min_size - 1
    assert sees_the_image(positive_network, (smallest, smallest))
    for shape in ((less, smallest), (smallest, less)):
        assert not sees_the_image(positive_network, shape)
        with pytest.raises(UserError, match=f"≥ {smallest}"):
            build_autoencoder((*shape, 1))


def sees_the_image(network, shape):
    """Return whether black and white images of this shape give different outputs; the network may also refuse them."""
    try:
        black, white = (np.asarray(network(np.full((1, *shape, 1), value, np.float32))) for value in (0, 1))
    except (tf.errors.InvalidArgumentError, ValueError):  # of TensorFlow or, from 3.15 on, of Keras; 3.12 has none
        return False
    return not np.array_equal(black, white)


def test_min_padded_size():
    assert AUTOENCODER.min_padded_size == rounded_up(AUTOENCODER.min_size) == AUTOENCODER.padded_size(1)


@pytest.mark.parametrize("axis", [1, 2])
def test_receptive_radius(positive_network, axis):
    """Over all phases of the output: some pixel `receptive_radius` away matters, and none that is further away."""
    distances = np.concatenate([distances_that_matter(positive_network, axis, phase) for phase in phases()])
    assert np.abs(distances).max() == AUTOENCODER.receptive_radius


def test_every_phase_is_as_computed(positive_network):
    """The first and the last input row that each output row depends on, one by one."""
    for phase in phases():
        first = last = phase
        for layer in reversed(AUTOENCODER.layers):
            first, last = layer.inputs_of(first, last)
        distances = distances_that_matter(positive_network, 1, phase)
        assert (distances.min(), distances.max()) == (first - phase, last - phase)


def phases():
    return range(AUTOENCODER.multiple)


def distances_that_matter(model, axis, phase):
    """Return the distances along an axis, in pixels, of the input pixels that an output pixel depends on."""
    centre = 10 * AUTOENCODER.multiple
    size = 2 * centre
    assert centre > AUTOENCODER.receptive_radius + AUTOENCODER.multiple
    images = tf.ones((1, size, size, 1))
    position = [centre, centre]
    position[axis - 1] += phase
    with tf.GradientTape() as tape:
        tape.watch(images)
        pixel = model(images)[0, position[0], position[1], 0]
    gradient = np.asarray(tape.gradient(pixel, images))[0, :, :, 0]
    rows = np.flatnonzero(gradient.any(axis=2 - axis))
    return rows - position[axis - 1]


def test_halo_covers_the_receptive_radius():
    assert AUTOENCODER.halo == rounded_up(AUTOENCODER.receptive_radius) >= AUTOENCODER.receptive_radius


def test_layers_are_the_networks():
    """Each convolution has the channels, kernel and stride that the geometry says."""
    for channels in (1, 3):
        model = build_autoencoder((None, None, channels))
        inputs = channels
        for layer in AUTOENCODER.layers:
            built = model.get_layer(layer.name)
            outputs = layer.filters or channels
            kernel = (inputs, outputs) if layer.kind == "conv" else (outputs, inputs)
            assert built.kernel.shape == (layer.kernel, layer.kernel, *kernel)
            assert built.strides == (layer.stride, layer.stride)
            inputs = outputs
