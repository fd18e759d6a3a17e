import subprocess
import sys

import numpy as np
import pytest

from keras_dae.errors import UserError
from keras_dae.networks.autoencoder import build_autoencoder


@pytest.mark.parametrize(("channels", "parameters"), [(1, 112_065), (3, 112_643)])
def test_parameters_and_names(channels, parameters):
    model = build_autoencoder((None, None, channels))
    assert model.count_params() == parameters
    assert [operation.name for operation in model.operations] == [
        "noisy",
        "flip_rows_in",
        "flip_columns_in",
        "encoder_conv1",
        "encoder_conv2",
        "encoder_conv3",
        "decoder_conv_transpose1",
        "decoder_conv_transpose2",
        "decoder_conv_transpose3",
        "flip_rows_out",
        "flip_columns_out",
    ]


@pytest.mark.parametrize(("size", "expected"), [((28, 28), (28, 28)), ((17, 64), (20, 64)), ((30, 45), (32, 48))])
def test_output_has_the_next_multiple(size, expected):
    images = np.random.default_rng(0).random((2, *size, 1), dtype=np.float32)
    denoised = np.asarray(build_autoencoder()(images))
    assert denoised.shape == (2, *expected, 1)
    assert 0 <= denoised.min() < denoised.max() <= 1


def test_fixed_image_shape():
    assert build_autoencoder((28, 32, 3)).output_shape == (None, 28, 32, 3)


def test_same_seed_same_weights():
    first, again, other = (build_autoencoder(seed=seed).get_weights() for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again))
    assert not np.array_equal(first[0], other[0])


# Fan-in of each kernel: what reaches one output pixel, and what PyTorch's rule counts.
FANS = {"he": (9, 144, 800, 1600, 72, 36), "torch": (9, 144, 800, 800, 144, 9)}


@pytest.mark.parametrize("initialization", FANS)
def test_initialization_has_the_rules_spread(initialization):
    models = [build_autoencoder(initialization=initialization, seed=seed).get_weights() for seed in range(10)]
    kernels = [np.stack(same_layer) for same_layer in zip(*(weights[::2] for weights in models))]
    biases = [np.stack(same_layer) for same_layer in zip(*(weights[1::2] for weights in models))]
    for kernel, bias, fan in zip(kernels, biases, FANS[initialization]):
        expected = (2 / fan) ** 0.5 if initialization == "he" else (1 / 3 / fan) ** 0.5
        assert kernel.std() == pytest.approx(expected, rel=0.06)
        assert kernel.mean() == pytest.approx(0, abs=0.1 * expected)
        if initialization == "torch":
            assert np.abs(kernel).max() <= fan**-0.5
            assert 0.5 * fan**-0.5 < np.abs(bias).max() <= fan**-0.5
        else:
            assert not bias.any()


def test_he_starts_at_the_images_mean():
    images = np.random.default_rng(0).random((8, 28, 28, 1), dtype=np.float32)
    for mean in (0.1, 0.5, 0.8):
        outputs = [np.asarray(build_autoencoder(seed=seed, mean=mean)(images)).mean() for seed in range(5)]
        assert np.median(outputs) == pytest.approx(mean, abs=0.1)


def test_torch_rule_equals_pytorchs():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    conv, transposed = torch.nn.Conv2d(32, 64, 5), torch.nn.ConvTranspose2d(64, 32, 5)
    ours = build_autoencoder(initialization="torch", seed=0)
    for theirs, name in ((conv, "encoder_conv3"), (transposed, "decoder_conv_transpose1")):
        kernel, bias = ours.get_layer(name).get_weights()
        assert np.abs(kernel).max() == pytest.approx(theirs.weight.abs().max().item(), rel=0.001)
        assert np.abs(bias).max() == pytest.approx(theirs.bias.abs().max().item(), rel=0.15)


@pytest.mark.parametrize("image_shape", [(28, 28, 2), (16, 28, 1)])
def test_wrong_image_shape(image_shape):
    with pytest.raises(UserError, match="expected image_shape"):
        build_autoencoder(image_shape)


def test_wrong_initialization():
    with pytest.raises(UserError, match="'xavier'"):
        build_autoencoder(initialization="xavier")


@pytest.mark.slow
def test_saved_model_loads_without_keras_dae(tmp_path):
    model = build_autoencoder(seed=0)
    images = np.random.default_rng(0).random((2, 28, 28, 1), dtype=np.float32)
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "in.npy", images)
    code = (
        "import numpy, keras, sys; model = keras.models.load_model('model.keras')\n"
        "assert 'keras_dae' not in sys.modules\n"
        "numpy.save('out.npy', model.predict(numpy.load('in.npy'), verbose=0))"
    )
    subprocess.run([sys.executable, "-I", "-c", code], cwd=tmp_path, check=True)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), model.predict(images, verbose=0), atol=1e-6)
