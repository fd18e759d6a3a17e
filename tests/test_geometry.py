"""The geometry that is computed from the layers, against the Keras network itself."""

import numpy as np
import pytest
import tensorflow as tf

from keras_dae.errors import UserError
from keras_dae.networks import NETWORKS, build_network, network_name
from keras_dae.networks.autoencoder import build_autoencoder
from keras_dae.networks.geometry import AUTOENCODER, Grid


@pytest.fixture(scope="module")
def positive_network():
    """The autoencoder with positive weights, see `with_positive_weights`."""
    return with_positive_weights(build_autoencoder(seed=0))


@pytest.fixture(scope="module", params=NETWORKS)
def any_network(request):
    """Each network with positive weights."""
    return with_positive_weights(build_network(request.param, seed=0))


def with_positive_weights(model):
    """Return a network whose weights are positive, so that no ReLU hides a dependence.

    Each layer averages its inputs, so that a final sigmoid is far from saturation.
    """
    for layer in NETWORKS[network_name(model)].geometry.layers:
        kernel, *biases = model.get_layer(layer.name).get_weights()
        inputs = kernel.shape[2 if layer.kind == "conv" else 3] * layer.kernel**2
        model.get_layer(layer.name).set_weights([np.full_like(kernel, 1 / inputs), *(0 * bias for bias in biases)])
    return model


def geometry_of(model):
    return NETWORKS[network_name(model)].geometry


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


def test_smallest_padded_size_is_kept(any_network):
    grid = geometry_of(any_network).grid
    for size in (grid.min_padded_size, grid.min_padded_size + grid.multiple):
        assert any_network(np.zeros((1, size, size, 1), np.float32)).shape == (1, size, size, 1)


@pytest.mark.parametrize("axis", [1, 2])
def test_receptive_radius(any_network, axis):
    """Over all phases of the output: some pixel `receptive_radius` away matters, and none that is further away."""
    phases = range(geometry_of(any_network).multiple)
    distances = np.concatenate([distances_that_matter(any_network, axis, phase) for phase in phases])
    assert np.abs(distances).max() == geometry_of(any_network).receptive_radius


def test_every_phase_is_as_computed(any_network):
    """The first and the last input row that each output row depends on, one by one."""
    geometry = geometry_of(any_network)
    for phase in range(geometry.multiple):
        first = last = phase
        for layer in reversed(geometry.layers):
            first, last = layer.inputs_of(first, last)
        distances = distances_that_matter(any_network, 1, phase)
        assert (distances.min(), distances.max()) == (first - phase, last - phase)


def distances_that_matter(model, axis, phase):
    """Return the distances along an axis, in pixels, of the input pixels that an output pixel depends on."""
    geometry = geometry_of(model)
    centre = geometry.halo + 2 * geometry.multiple
    size = 2 * centre
    assert centre > geometry.receptive_radius + geometry.multiple
    images = tf.ones((1, size, size, 1))
    position = [centre, centre]
    position[axis - 1] += phase
    with tf.GradientTape() as tape:
        tape.watch(images)
        pixel = model(images)[0, position[0], position[1], 0]
    gradient = np.asarray(tape.gradient(pixel, images))[0, :, :, 0]
    rows = np.flatnonzero(gradient.any(axis=2 - axis))
    return rows - position[axis - 1]


@pytest.mark.parametrize("name", NETWORKS)
def test_halo_covers_the_receptive_radius(name):
    grid = NETWORKS[name].geometry.grid
    assert grid.halo % grid.multiple == 0
    assert 0 <= grid.halo - grid.receptive_radius < grid.multiple


@pytest.mark.parametrize("name", NETWORKS)
def test_grid_comes_back_from_metadata(name):
    grid = NETWORKS[name].geometry.grid
    assert Grid.from_metadata({"dataset": "x", **grid.to_metadata()}) == grid


@pytest.mark.parametrize(
    "damage",
    [{"multiple": "0"}, {"multiple": "x"}, {"multiple": "7"}, {"receptive_radius": "-9"}, {"min_padded_size": "0"}],
)
def test_damaged_metadata_are_refused(damage):
    with pytest.raises(ValueError, match=r"fit together|invalid literal"):
        Grid.from_metadata({**AUTOENCODER.grid.to_metadata(), **damage})


@pytest.mark.parametrize("name", NETWORKS)
def test_layers_are_the_networks(name):
    """Each convolution has the channels, kernel and stride that the geometry says."""
    for channels in (1, 3):
        model = build_network(name, (None, None, channels))
        inputs = channels
        for layer in NETWORKS[name].geometry.layers:
            built = model.get_layer(layer.name)
            outputs = layer.filters or channels
            kernel = (inputs, outputs) if layer.kind == "conv" else (outputs, inputs)
            assert built.kernel.shape == (layer.kernel, layer.kernel, *kernel)
            assert built.strides == (layer.stride, layer.stride)
            assert built.use_bias == layer.bias
            inputs = outputs
