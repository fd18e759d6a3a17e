"""A model says what it was trained on when an image is unlike that."""

import copy
import json
import shutil
import warnings

import numpy as np
import pytest
from conftest import smooth_picture
from PIL import Image

from export.run import onnx_metadata
from keras_dae.config import TrainConfig
from keras_dae.data.load import load_dataset
from keras_dae.denoise.__main__ import main
from keras_dae.denoise.denoiser import load_denoiser
from keras_dae.denoise.trained_on import TrainedOn, UnlikeTrainingImages
from keras_dae.images.brightness import brightness
from keras_dae.pretrained import model_folder
from keras_dae.runs.folder import run_description

SAID = (
    "the model was trained on 28×28 grey images of handwritten digits (mnist) with gaussian noise 0.5; {} images are "
    "unlike these ({}): expect poor results; train on images like yours: python -m keras_dae.train --dataset FOLDER"
)


@pytest.fixture(scope="module")
def denoiser():
    return load_denoiser("mnist", threads=1)


def noisy(values, noise_factor, kind="gaussian"):
    """Return grey or colour images, uint8, with noise."""
    random, unit = np.random.default_rng(5), values / 255
    if kind == "gaussian":
        unit = unit + noise_factor * random.standard_normal(unit.shape)
    elif kind == "speckle":
        unit = unit * (1 + noise_factor * random.standard_normal(unit.shape))
    else:
        drawn = random.random(unit.shape)
        unit = np.where(drawn < noise_factor / 2, 0, np.where(drawn > 1 - noise_factor / 2, 1, unit))
    return np.uint8(np.rint(255 * unit.clip(0, 1)))


def said(folder, capsys, model="mnist"):
    """Return the lines about training images that the command prints for the files in a folder."""
    assert main([str(folder), "--model", model, "--output-dir", str(folder / "out"), "--processes", "1"]) == 0
    return [line for line in capsys.readouterr().err.splitlines() if "trained on" in line]


@pytest.mark.parametrize(
    ("model", "kind", "noise_factor"),
    [
        ("mnist", "gaussian", 0.0),
        ("mnist", "gaussian", 0.5),
        *(
            ("mnist-blind", kind, factor)
            for kind in ("gaussian", "speckle", "salt_and_pepper")
            for factor in (0.05, 0.9)
        ),
    ],
)
def test_digits_are_like_digits(model, kind, noise_factor, digits):
    images = noisy(digits, noise_factor, kind)
    denoiser = load_denoiser(model, threads=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        denoiser(images[..., None])
        denoiser(images[0])
    assert set(denoiser.trained_on.differences(images[..., None], 255)) == {""}


def test_real_digits_are_like_digits(mnist_dir, denoiser):
    digits = np.load(mnist_dir / "mnist.npz")["x_test"][..., None]
    words = denoiser.trained_on.differences(noisy(digits, 0.5), 255)
    assert set(words) == {""}


def test_the_command_says_nothing_about_digits(digits, tmp_path, capsys):
    for index, digit in enumerate(noisy(digits[:12], 0.5)):
        Image.fromarray(digit).save(tmp_path / f"{index}.png")
    assert said(tmp_path, capsys) == []


def test_the_command_says_it_about_photographs_in_one_line(tmp_path, capsys):
    for index in range(6):
        Image.fromarray(noisy(smooth_picture(80, 100, index), 0.15)).save(tmp_path / f"{index}.png")
        Image.fromarray(noisy(smooth_picture(80, 100 + index, index), 0.15)).save(tmp_path / f"{index}.tif")
    assert said(tmp_path, capsys) == [SAID.format("12 of 12", "larger")]


def test_only_unlike_images_are_counted(digits, tmp_path, capsys):
    for index, digit in enumerate(noisy(digits[:5], 0.5)):
        Image.fromarray(digit).save(tmp_path / f"{index}.png")
        Image.fromarray(255 - digit).save(tmp_path / f"{index}_black_on_white.png")
    Image.fromarray(np.zeros((10, 10), np.uint8)).save(tmp_path / "small.png")
    np.savez(tmp_path / "large.npz", a=np.zeros((100, 100), np.uint8), b=digits[0])
    assert said(tmp_path, capsys) == [SAID.format("7 of 12", "brighter for 5, larger for 1, smaller for 1")]


def test_photographs_of_skimage(denoiser):
    data = pytest.importorskip("skimage.data", reason="scikit-image is not installed")
    camera = noisy(data.camera(), 40 / 255)
    with pytest.warns(UnlikeTrainingImages, match=r"trained on 28×28 grey images of handwritten digits.*is larger"):
        copy.copy(denoiser)(camera)
    patches = [camera[top : top + 28, left : left + 28] for top in range(0, 112, 28) for left in range(0, 484, 28)]
    assert denoiser.trained_on.differences(np.stack(patches)[..., None], 255).count("brighter") > 0.9 * len(patches)


@pytest.mark.parametrize(("height", "width", "word"), [(42, 19, ""), (43, 28, "larger"), (28, 18, "smaller")])
def test_which_sizes_are_unlike(denoiser, height, width, word):
    assert denoiser.difference(np.zeros((height, width), np.uint8)) == word


def test_python_warns_once(denoiser):
    fresh, picture = copy.copy(denoiser), smooth_picture(60, 70, 1)
    with pytest.warns(UnlikeTrainingImages) as caught:
        fresh(picture)
        fresh(picture)
    assert [warning.filename for warning in caught] == [__file__]


def test_what_a_file_says_comes_before_what_is_known():
    patches = {"dataset": "mnist", "noise": "gaussian", "noise_factor": "0.1", "image_size": "patches"}
    trained_on = TrainedOn.from_metadata(patches, 3)
    assert trained_on.size is None
    assert trained_on.differences(np.full((2, 300, 300, 3), 255, np.uint8), 255) == ["", ""]
    whole = TrainedOn.from_metadata({"dataset": "pages", "image_size": "40×60", "brightness": "0.850 to 0.950"}, 1)
    assert (whole.size, whole.brightness) == ((40, 60), (0.85, 0.95))
    pages = np.full((3, 40, 60, 1), 230, np.uint8)
    pages[1], pages[2, :, :20] = 20, 0
    assert whole.differences(pages, 255) == ["", "darker", ""]
    assert whole.differences(pages / 255, 1) == ["", "darker", ""]
    for unknown in ({}, {"dataset": "mine", "image_size": "broken", "brightness": "?"}):
        assert TrainedOn.from_metadata(unknown, 1).differences(pages, 255) == ["", "", ""]


@pytest.mark.parametrize("name", ["mnist", "mnist-blind"])
def test_shipped_models_say_what_they_said(name):
    """A new export of a shipped model has the same bytes."""
    folder = model_folder(name)
    assert onnx_metadata(folder) == dict(load_denoiser(name).session.get_modelmeta().custom_metadata_map)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, {"image_size": "28×28", "brightness": "0.000 to 0.000"}),
        ({"clip": False}, {"image_size": "28×28", "brightness": "0.000 to 0.000", "clip": "false"}),
        ({"patch_size": 20}, {"image_size": "patches"}),
    ],
)
def test_new_models_say_more(changed, expected, digits_npz, tmp_path):
    config = TrainConfig(dataset=str(digits_npz), **changed)
    (tmp_path / "config.json").write_text(json.dumps(run_description(config, load_dataset(config))))
    shutil.copy(model_folder("mnist") / "metrics.json", tmp_path)
    metadata = onnx_metadata(tmp_path)
    assert {key: metadata[key] for key in ("image_size", "brightness", "clip") if key in metadata} == expected
    trained_on = TrainedOn.from_metadata(metadata, 1)
    assert trained_on.clip == changed.get("clip", True)
    assert trained_on.size == (None if "patch_size" in changed else (28, 28))


def test_brightness_of_a_dataset():
    images = np.repeat(np.uint8([10] + [100] * 998 + [200]), 28 * 28).reshape(1000, 28, 28, 1)
    assert brightness(images) == pytest.approx((100 / 255, 100 / 255))
