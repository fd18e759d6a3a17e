"""Trainings that come to nothing: constant images, warm-up without end, and models that are of no use."""

import json

import numpy as np
import pytest
from conftest import assert_user_error
from PIL import Image

from keras_dae.config import RECIPES, TrainConfig
from keras_dae.data.splits import DatasetSplits, EvaluationImages
from keras_dae.errors import UserError
from keras_dae.networks.autoencoder import build_autoencoder
from keras_dae.runs.metrics_file import ImageMetrics
from keras_dae.train.__main__ import main
from keras_dae.train.judgement import check_not_constant, check_responds, fitted_to_length, problems
from keras_dae.train.run import train_and_evaluate


@pytest.fixture(scope="module")
def noisy():
    return np.random.default_rng(0).random((3, 28, 28, 1), np.float32)


def network(last_bias, initialization="torch"):
    """Return an untrained network, whose last bias is set: it decides what a collapsed network gives."""
    model = build_autoencoder(initialization=initialization, seed=0)
    *weights, bias = model.get_weights()
    model.set_weights([*weights, np.full_like(bias, last_bias)])
    return model


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(
    ("bias", "expected"),
    [(-1e4, "collapsed"), (1e4, "collapsed"), (-40, "collapsed"), (np.nan, "diverged"), (0, None), (-3, None)],
)
def test_output_that_does_not_depend_on_the_input(noisy, count, bias, expected):
    """It is recognized with a single test image, too; an untrained network, whose output hardly varies, is not it."""
    model = network(bias)
    denoised = model.predict_on_batch(noisy[:count])
    if expected:
        with pytest.raises(UserError, match=expected):
            check_responds(model, noisy[:count], denoised)
    else:
        check_responds(model, noisy[:count], denoised)


def test_blank_test_images(noisy):
    """A good model turns noisy blank pages into equal blank pages; that is no collapse."""
    model = network(-3, "he")
    same = np.repeat(noisy[:1], 4, axis=0)
    check_responds(model, same, model.predict_on_batch(same))


@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_problems(shift):
    random = np.random.default_rng(0)
    clean = random.random((5, 20, 20, 1), np.float32)
    better, worse = ImageMetrics(0.01, 20, 0.9), ImageMetrics(0.02, 17, 0.8)
    assert problems(worse, better, clean, clean + shift) == ()
    (found,) = problems(better, worse, clean, clean + shift)
    assert "worse than the noisy ones: PSNR 17.00 dB instead of 20.00 dB" in found
    (found,) = problems(worse, better, clean, np.repeat(clean[:1], 5, axis=0))
    assert "nearly the same" in found
    assert problems(worse, better, clean[:1], clean[:1]) == ()
    assert problems(worse, better, np.zeros_like(clean), np.zeros_like(clean)) == ()


@pytest.mark.parametrize(
    ("train", "validation", "test", "is_constant"),
    [(7, 7, 7, True), (0, 0, 0, True), (7, 7, 8, False), (None, 7, 7, False), (None, None, None, False)],
)
def test_constant_images(train, validation, test, is_constant):
    def images(value):
        return np.full((2, 20, 20, 1), value, np.uint8) if value is not None else np.uint8([[[[1]], [[2]]]])

    held_out = (EvaluationImages(images(value)) for value in (validation, test))
    splits = DatasetSplits("grey", "", images(train), *held_out)
    if is_constant:
        with pytest.raises(UserError, match=f"got grey, in which every pixel of all images is {train};"):
            check_not_constant(splits)
    else:
        check_not_constant(splits)


def command(npz, run, *options):
    """Return arguments of a training on 72 images."""
    arguments = ["--dataset", npz, "--output-dir", run, "--no-export", "--batch-size", 8, "--epochs", 1, *options]
    return list(map(str, arguments))


def test_constant_dataset(tmp_path, capsys):
    np.save(tmp_path / "black.npy", np.zeros((40, 28, 28), np.uint8))
    status = main(command(tmp_path / "black.npy", tmp_path / "run"))
    assert_user_error(status, capsys.readouterr().err, "different images in black", "got 1 among 40")
    (tmp_path / "white").mkdir()
    for size in range(64, 84):
        Image.new("L", (size, 64), 255).save(tmp_path / f"white/{size}.png")
    status = main(command(tmp_path / "white", tmp_path / "run"))
    assert_user_error(
        status, capsys.readouterr().err, "got white, in which every pixel of all validation and test images is 255"
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_far_too_high_learning_rate(digits_npz, tmp_path, capsys):
    """Nine steps are enough to make every image black."""
    status = main(command(digits_npz, tmp_path / "run", "--learning-rate", 1000))
    assert_user_error(status, capsys.readouterr().err, "the same for every input", "--learning-rate", "--overwrite")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_worse_than_the_noisy_images(digits_npz, tmp_path, capsys):
    options = ["--learning-rate", 1e-9, "--noise-factor", 0.05, "--initialization", "he"]
    assert main(command(digits_npz, tmp_path / "run", *options)) == 0
    loud = "worse than the noisy ones"
    assert capsys.readouterr().err.count(f"*** The denoised test images are {loud}") == 1
    (problem, *_) = json.loads((tmp_path / "run/metrics.json").read_text())["problems"]
    assert loud in problem
    assert f"> **Warning.** {problem}.\n" in (tmp_path / "run/README.md").read_text()


@pytest.mark.slow
def test_useful(digits_npz, tmp_path, capsys):
    config = TrainConfig(
        dataset=str(digits_npz), epochs=10, batch_size=4, initialization="he", learning_rate=0.006, beta_1=0.7
    )
    run = train_and_evaluate(config, tmp_path / "run")
    assert "***" not in capsys.readouterr().err
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["problems"] == []
    assert metrics["test"]["psnr"] > metrics["noisy"]["psnr"] + 1
    assert "Warning" not in (run / "README.md").read_text()


@pytest.mark.parametrize(
    ("recipe", "steps", "warmup"),
    [
        ("best", 445, 1000),  # MNIST
        ("best", 17, 102),  # 100 images of 64×64
        ("best", 1, 6),
        ("quick", 888, 88),  # MNIST
        ("quick", 5, 0),
        ("seed", 570, 0),
    ],
)
def test_warmup_is_at_most_a_tenth(recipe, steps, warmup):
    config = fitted_to_length(TrainConfig.from_recipe(recipe), steps)
    assert config.warmup_steps == warmup
    assert config.differences(TrainConfig.from_recipe(recipe)) == ["warmup_steps"] * (
        warmup != RECIPES[recipe].get("warmup_steps", 0)
    )


@pytest.mark.slow
def test_short_warmup_is_said_and_recorded(digits_npz, tmp_path, capsys):
    config = TrainConfig.from_recipe("best", dataset=str(digits_npz), epochs=10, batch_size=16)
    run = train_and_evaluate(config, tmp_path / "run")
    assert "warm-up: 4 steps, a tenth of the training's 40, not 1000\n" in capsys.readouterr().out
    about = json.loads((run / "config.json").read_text())
    assert about["config"]["warmup_steps"] == 1000  # as it was asked for, so that the same command continues the run
    assert about["conditions"]["warmup_steps"] == 4
    assert about["conditions"]["steps"] == 40
