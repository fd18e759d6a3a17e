import copy
import dataclasses
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from export.parity.cases import reference
from export.to_onnx import export_onnx
from keras_dae.denoise import denoiser as denoiser_module
from keras_dae.denoise.denoiser import load_denoiser
from keras_dae.errors import UserError
from keras_dae.networks.autoencoder import build_autoencoder
from keras_dae.networks.geometry import AUTOENCODER


@pytest.fixture(scope="module")
def models():
    """Channels -> a network whose outputs vary."""
    models = {channels: build_autoencoder((None, None, channels), "torch", seed=0) for channels in (1, 3)}
    for model in models.values():
        model.set_weights([3 * weight for weight in model.get_weights()])
    return models


@pytest.fixture(scope="module")
def files(models, tmp_path_factory):
    folder = tmp_path_factory.mktemp("denoise")
    for channels, model in models.items():
        export_onnx(model, folder / f"{channels}.onnx")
    return {channels: folder / f"{channels}.onnx" for channels in models}


@pytest.fixture(scope="module")
def denoisers(files):
    return {channels: load_denoiser(file) for channels, file in files.items()}


def noise(*shape, dtype=np.float32):
    values = np.random.default_rng(0).random(shape)
    if np.dtype(dtype).kind == "f":
        return values.astype(dtype)
    return values > 0.5 if dtype is bool else np.rint(values * np.iinfo(dtype).max).astype(dtype)


@pytest.mark.parametrize("size", [(28, 28), (37, 50), (5, 3), (1, 1)])
@pytest.mark.parametrize("channels", [1, 3])
def test_as_keras_does(models, denoisers, channels, size):
    image = noise(*size, channels)
    expected = reference(models[channels], image[None])[0]
    np.testing.assert_allclose(denoisers[channels](image), expected, atol=1e-5)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint16, np.float16, np.float32, np.float64])
def test_types(models, denoisers, dtype):
    image = noise(28, 32, dtype=dtype)
    denoised = denoisers[1](image)
    assert (denoised.shape, denoised.dtype) == (image.shape, image.dtype)
    white = np.iinfo(dtype).max if np.dtype(dtype).kind == "u" else 1
    expected = reference(models[1], (image / white).astype(np.float32)[None, :, :, None])[0, :, :, 0]
    step = {"f": 1e-3 if dtype is np.float16 else 1e-5, "u": 0.5 / white + 1e-5, "b": 0.51}[np.dtype(dtype).kind]
    np.testing.assert_allclose(denoised / white, expected, atol=step)


@pytest.mark.parametrize("shape", [(28, 20), (28, 20, 1), (28, 20, 3), (5, 28, 20, 1), (2, 28, 20, 3)])
@pytest.mark.parametrize("channels", [1, 3])
def test_shapes_come_back(denoisers, channels, shape):
    image = noise(*shape, dtype=np.uint8)
    denoised = denoisers[channels](image)
    assert denoised.shape == shape
    assert (denoised != image).any()


def test_grey_network_runs_on_each_colour(denoisers):
    image = noise(30, 41, 3)
    for colour in range(3):
        np.testing.assert_allclose(denoisers[1](image)[..., colour], denoisers[1](image[..., colour]), atol=1e-6)


def test_colour_network_sees_grey_as_colour(denoisers):
    image = noise(30, 41)
    expected = denoisers[3](np.repeat(image[..., None], 3, -1)).mean(-1)
    np.testing.assert_allclose(denoisers[3](image), expected, atol=1e-6)


@pytest.mark.parametrize("colours", [1, 3])
def test_alpha_is_kept(denoisers, colours):
    image = noise(28, 20, colours + 1, dtype=np.uint8)
    denoised = denoisers[1](image)
    assert np.array_equal(denoised[..., -1], image[..., -1])
    assert np.array_equal(denoised[..., :-1].squeeze(), denoisers[1](image[..., :-1].squeeze()))


@pytest.mark.slow
@settings(deadline=None, max_examples=40)
@given(height=st.integers(1, 200), width=st.integers(1, 200), tile=st.integers(1, 12), channels=st.sampled_from([1, 3]))
def test_tiles_have_no_seams(denoisers, height, width, tile, channels):
    image = noise(height, width, channels)
    whole = denoisers[channels].session.run(["denoised"], {"noisy": image[None]})[0][0]
    denoised = np.empty_like(image)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(denoiser_module, "TILE", AUTOENCODER.multiple * tile)
        denoisers[channels]._denoise_tiles(image, denoised)
    np.testing.assert_allclose(denoised, whole, atol=1e-6)


def test_large_images_go_in_tiles(denoisers):
    image = noise(700, 530)
    whole = denoisers[1].session.run(["denoised"], {"noisy": image[None, :, :, None]})[0][0, :, :, 0]
    np.testing.assert_allclose(denoisers[1](image), whole, atol=1e-6)


def test_halo_is_as_wide_as_it_must_be(denoisers, monkeypatch):
    """The test above can fail: with a halo narrower than the network sees, there are seams."""
    image = noise(100, 100, 1)
    whole = denoisers[1].session.run(["denoised"], {"noisy": image[None]})[0][0]
    monkeypatch.setattr(denoiser_module, "TILE", 32)
    grid = denoisers[1].grid
    narrower = dataclasses.replace(grid, receptive_radius=2 * grid.multiple)
    monkeypatch.setattr(denoisers[1], "grid", narrower)
    denoised = np.empty_like(image)
    denoisers[1]._denoise_tiles(image, denoised)
    assert np.abs(denoised - whole).max() > 1e-4


def test_many_small_images_are_run_in_batches(denoisers, monkeypatch):
    images = noise(50, 20, 24, 1)
    expected = np.stack([denoisers[1](image) for image in images])
    monkeypatch.setattr(denoiser_module, "MAX_BATCH_PIXELS", 20 * 24 * 7)
    np.testing.assert_allclose(denoisers[1](images), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (np.zeros(5), r"shape \(5,\)"),
        (np.zeros((28, 28, 5)), r"shape \(28, 28, 5\); for a stack of grey images, give \(count, height, width, 1\)"),
        (np.zeros((28, 28, 16)), r"shape \(28, 28, 16\)"),
        (np.zeros((28, 28), np.int16), "int16; convert them"),
        (np.full((28, 28), 1.00002), r"\[0, 1\], got 1\.00002"),
        (np.zeros((0, 28)), r"shape \(0, 28\)"),
        (np.zeros((2, 2, 28, 28, 1)), "shape"),
        (np.zeros((28, 28), np.int32), "int32"),
        (np.zeros((28, 28), complex), "complex"),
        (np.full((28, 28), 255.0), r"\[0, 1\], got 255"),
        (np.full((28, 28), np.nan), "finite values, got NaN"),
    ],
)
def test_wrong_images(denoisers, image, expected):
    with pytest.raises(UserError, match=expected):
        denoisers[1](image)


@pytest.mark.parametrize("white", ["Auto", "4095", b"auto", 4095.0])
def test_wrong_white(denoisers, white):
    with pytest.raises(UserError, match="expected white to be an integer, 'auto' or 'type', got"):
        denoisers[1](np.zeros((8, 8), np.uint16), white=white)


def test_masked_pixels_and_palettes_are_refused(denoisers):
    image = np.zeros((8, 8), np.uint8)
    palette = Image.fromarray(image).convert("P")
    for refused in (np.ma.masked_equal(image, 0), palette):
        with pytest.raises(UserError, match="got a masked array or palette indices"):
            denoisers[1](refused)
    assert np.array_equal(denoisers[1](np.ma.array(image)), denoisers[1](image))  # nothing is masked
    assert np.array_equal(denoisers[1](palette.convert("L")), denoisers[1](image))


def test_rounding_beyond_one_is_taken(denoisers):
    image = noise(28, 32, dtype=np.float64)
    image[0, 0] = 1
    np.testing.assert_allclose(denoisers[1](image + 1e-9), denoisers[1](image), atol=1e-6)


def test_a_stack_of_grey_images(denoisers):
    stack = noise(5, 28, 20, dtype=np.uint8)
    assert np.array_equal(denoisers[1](stack), np.stack([denoisers[1](image) for image in stack]))
    assert np.array_equal(denoisers[3](stack), np.stack([denoisers[3](image) for image in stack]))


def test_noise_that_was_not_clipped(models, tmp_path):
    """A model that was trained with it says so."""
    export_onnx(models[1], tmp_path / "any.onnx", {"clip": "false"})
    denoiser = load_denoiser(tmp_path / "any.onnx")
    image = 3 * noise(28, 32) - 1
    expected = reference(models[1], image[None, ..., None])[0, ..., 0]
    np.testing.assert_allclose(denoiser(image), expected, atol=1e-5)
    with pytest.raises(UserError, match="finite"):
        denoiser(np.full((28, 28), np.inf))


def test_copies_and_pickles(denoisers):
    image = noise(28, 20)
    for again in (copy.copy, copy.deepcopy, lambda denoiser: pickle.loads(pickle.dumps(denoiser))):
        other = again(denoisers[1])
        assert other is not denoisers[1]
        assert other.channels == 1
        assert np.array_equal(other(image), denoisers[1](image))


def test_wrong_files(tmp_path, files):
    (tmp_path / "garbage.onnx").write_bytes(b"garbage")
    other = onnx.load(files[1])
    other.graph.output[0].name = other.graph.node[-1].output[0] = "something"
    onnx.save(other, tmp_path / "other.onnx")
    for name, expected in (
        ("missing.onnx", "missing.onnx"),
        (".", "python -m export"),
        ("garbage.onnx", "cannot load"),
        ("other.onnx", "something"),
    ):
        with pytest.raises(UserError, match=expected):
            load_denoiser(tmp_path / name)


def test_run_folder(tmp_path, files):
    (tmp_path / "model.onnx").write_bytes(files[1].read_bytes())
    assert load_denoiser(tmp_path).channels == 1


def test_no_tensorflow(files):
    code = (
        "import sys, numpy; from keras_dae import load_denoiser\n"
        f"load_denoiser({str(files[1])!r})(numpy.zeros((28, 28)))\n"
        "assert not {'tensorflow', 'keras', 'onnx'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent.parent, check=True)
