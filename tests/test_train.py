import csv
import dataclasses
import gc
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import assert_same_run, assert_user_error, run_module, weights
from PIL import Image

from keras_dae._util.atomic import folder_to_replace
from keras_dae.config import TrainConfig
from keras_dae.data.load import load_dataset
from keras_dae.errors import UserError
from keras_dae.networks import build_network
from keras_dae.runs.folder import default_name, load_config
from keras_dae.train import callbacks
from keras_dae.train import fit as fit_module
from keras_dae.train.__main__ import main
from keras_dae.train.fit import learning_rate
from keras_dae.train.run import train_and_evaluate
from keras_dae.train.tensorflow_errors import in_one_line

FILES = {
    "config.json",
    "history.csv",
    "images.csv",
    "loss.png",
    "metrics.json",
    "model.keras",
    "README.md",
    "samples.png",
}


@pytest.fixture
def tiny(digits_npz):
    """A config that trains in a second."""
    return TrainConfig(dataset=str(digits_npz), epochs=2, batch_size=16, initialization="he")


@pytest.fixture(scope="module")
def tiny_run(digits_npz, tmp_path_factory):
    """A finished training of `tiny`, for tests that only read it."""
    config = TrainConfig(dataset=str(digits_npz), epochs=2, batch_size=16, initialization="he")
    return train_and_evaluate(config, tmp_path_factory.mktemp("tiny") / "run")


@pytest.mark.slow
def test_run_folder(tiny, tiny_run):
    run = tiny_run
    assert {path.name for path in run.iterdir()} == FILES
    assert {path.name for path in run.parent.iterdir()} == {"run", ".run.lock"}

    about = json.loads((run / "config.json").read_text())
    assert TrainConfig.from_dict(about["config"]) == tiny
    assert about["format"] == 2
    assert about["dataset"] | {"sha256": "", "brightness": []} == {
        "name": "tiny",
        "sha256": "",
        "brightness": [],
        "training_images": 76,
        "validation_images": 4,
        "test_images": 20,
        "image_shape": [28, 28, 1],
        "white": None,
        "skipped": [],
    }
    assert about["versions"]["keras"] == keras.__version__

    with open(run / "history.csv") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["epoch", "loss", "val_loss", "val_psnr", "seconds", "images_per_second"]
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert float(rows[1]["loss"]) < float(rows[0]["loss"])

    for name in ("samples.png", "loss.png"):
        with Image.open(run / name) as picture:
            assert picture.width > 400
    assert "tiny" in (run / "README.md").read_text()


@pytest.mark.slow
def test_metrics_are_of_the_noisy_test_images(tiny, tiny_run, digits):
    """Measured again from model.keras: on noisy images, never the clean ones through the model."""
    from keras_dae.data.batches import evaluation_images

    metrics = json.loads((tiny_run / "metrics.json").read_text())
    noisy, _ = evaluation_images(load_dataset(tiny).test, tiny)
    denoised = keras.models.load_model(tiny_run / "model.keras").predict(noisy, verbose=0)
    for name, images in (("test", denoised), ("noisy", noisy)):
        errors = np.mean((images - digits[:20, ..., None] / 255) ** 2, axis=(1, 2, 3))
        assert metrics[name]["mse"] == pytest.approx(errors.mean(), rel=1e-4)
        assert metrics[name]["psnr"] == pytest.approx(np.mean(-10 * np.log10(errors)), rel=1e-4)
    assert metrics["noisy"]["mse"] == pytest.approx(0.115, abs=0.01)
    assert metrics["images"] == 20


@pytest.mark.slow
def test_same_seed_same_bits_other_seed_other_bits(tiny, tiny_run, tmp_path):
    assert_same_run(tiny_run, train_and_evaluate(tiny, tmp_path / "again"))
    other = train_and_evaluate(TrainConfig(**{**tiny.to_dict(), "seed": 1}), tmp_path / "other")
    assert not np.array_equal(weights(tiny_run)[0], weights(other)[0])


class Killed(BaseException):
    """Stands for a kill: no code catches it."""


def kill_in_second_epoch(monkeypatch, times):
    """Make the first calls of `fit` fail in the middle of their second epoch, if they get there."""

    class Killer(fit_module.StopIfUseless):
        epochs = 0
        deaths = 0

        def on_epoch_begin(self, epoch, logs=None):
            self.epochs += 1

        def on_train_batch_end(self, batch, logs=None):
            if self.epochs == 2 and Killer.deaths < times:
                Killer.deaths += 1
                raise Killed

    monkeypatch.setattr(fit_module, "StopIfUseless", Killer)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"epochs": 4, "schedule": "cosine", "warmup_steps": 3},
        {"epochs": 4, "network": "unet", "flips": True, "loss": "l1", "clip_norm": 0.1, "average": 0.9},
        {"epochs": 30, "early_stopping": 1, "learning_rate": 0.02, "initialization": "he", "average": 0.8},
    ],
    ids=["schedule", "unet", "early stopping"],
)
def test_interrupted_run_is_bitwise_reproducible(tiny, tmp_path, options, monkeypatch, capsys):
    config = TrainConfig(**{**tiny.to_dict(), **options})
    whole = train_and_evaluate(config, tmp_path / "whole")
    epochs = len((whole / "history.csv").read_text().splitlines()) - 1
    assert ("early_stopping" in options) == (epochs < config.epochs)
    kill_in_second_epoch(monkeypatch, times=2)
    for _ in range(2):
        with pytest.raises(Killed):
            train_and_evaluate(config, tmp_path / "resumed")
        assert not (tmp_path / "resumed").exists()
    train_and_evaluate(config, tmp_path / "resumed")
    printed = capsys.readouterr().out
    assert "continuing after epoch 1 of" in printed
    assert "continuing after epoch 2 of" in printed
    assert_same_run(whole, tmp_path / "resumed")


@pytest.mark.slow
def test_early_stopping_keeps_the_best_weights(tiny, tmp_path):
    options = {"epochs": 30, "early_stopping": 1, "learning_rate": 0.02, "initialization": "he"}
    config = TrainConfig(**{**tiny.to_dict(), **options})
    run = train_and_evaluate(config, tmp_path / "run")
    with open(run / "history.csv") as file:
        losses = [float(row["val_loss"]) for row in csv.DictReader(file)]
    assert losses.index(min(losses)) == len(losses) - 2
    best = TrainConfig(**{**config.to_dict(), "early_stopping": None, "epochs": len(losses) - 1})
    assert all(np.array_equal(a, b) for a, b in zip(weights(run), weights(train_and_evaluate(best, tmp_path / "best"))))


@pytest.mark.slow
def test_finished_run_is_kept(tiny, tiny_run, tmp_path):
    run = shutil.copytree(tiny_run, tmp_path / "run")
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    with pytest.raises(UserError, match="--overwrite to replace it, or another --output-dir"):
        train_and_evaluate(tiny, run)
    assert before == {path.name: path.read_bytes() for path in run.iterdir()}

    other = TrainConfig(**{**tiny.to_dict(), "seed": 1})
    train_and_evaluate(other, run, overwrite=True)
    assert load_config(run / "config.json") == other
    assert {path.name for path in tmp_path.iterdir()} == {"run", ".run.lock"}


@pytest.mark.slow
def test_overwriting_keeps_the_old_run_until_the_new_one_stands(tiny, tiny_run, tmp_path, monkeypatch):
    kill_in_second_epoch(monkeypatch, times=1)
    run = shutil.copytree(tiny_run, tmp_path / "run")
    config = TrainConfig(**{**tiny.to_dict(), "seed": 1})
    with pytest.raises(Killed):
        train_and_evaluate(config, run, overwrite=True)
    assert load_config(run / "config.json") == tiny
    train_and_evaluate(config, run, overwrite=True)
    assert load_config(run / "config.json") == config


@pytest.mark.slow
def test_interrupted_run_with_other_options_is_not_mixed(tiny, tmp_path, monkeypatch):
    kill_in_second_epoch(monkeypatch, times=1)
    with pytest.raises(Killed):
        train_and_evaluate(tiny, tmp_path / "run")
    other = TrainConfig(**{**tiny.to_dict(), "epochs": 1, "noise_factor": (0.3,)})
    with pytest.raises(UserError, match="differs in noise_factor, epochs"):
        train_and_evaluate(other, tmp_path / "run")
    train_and_evaluate(other, tmp_path / "run", overwrite=True)
    assert load_config(tmp_path / "run" / "config.json") == other


def test_folder_of_something_else_is_never_overwritten(tiny, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="something else"):
        train_and_evaluate(tiny, tmp_path, overwrite=True)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_current_folder_is_not_replaced(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for here in (".", "..", tmp_path):
        with pytest.raises(UserError, match="beside or below the current one"):
            train_and_evaluate(tiny, here)


def test_places_of_a_folder(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk")
    assert folder_to_replace(tmp_path / "link") == tmp_path / "disk"  # the target is replaced, not the link
    with pytest.raises(UserError, match="a mount point"):
        folder_to_replace("/proc")


def test_output_below_a_file(tiny, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write into"):
        train_and_evaluate(tiny, tmp_path / "file" / "run")


@pytest.mark.slow
def test_diverging_training_stops(tiny, tmp_path, monkeypatch):
    def broken(*args):
        model = build_network(*args)
        model.set_weights([*model.get_weights()[:-1], np.array([np.nan])])
        return model

    monkeypatch.setattr(fit_module, "build_network", broken)
    with pytest.raises(UserError, match=r"diverged: the loss is nan.*--learning-rate"):
        train_and_evaluate(tiny, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_collapsed_training_stops(tiny, tmp_path, monkeypatch):
    """Far too high a learning rate makes every image black, which is noticed after the first epochs."""
    monkeypatch.setattr(callbacks, "MIN_STEPS_TO_JUDGE", 8)
    config = TrainConfig(**{**tiny.to_dict(), "epochs": 50, "learning_rate": 1.0})
    with pytest.raises(UserError, match=r"collapsed.*--learning-rate"):
        train_and_evaluate(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("change", ["vanish", "shrink", "grow", "same size", "damage"])
def test_images_that_change_while_training(tmp_path, photographs, monkeypatch, change):
    """The file is named, and the run is continued when it is as it was, which one of the cases shows."""
    # More epochs than the batches that are read ahead.
    config = TrainConfig(dataset=str(photographs), epochs=20, batch_size=4, initialization="he", channels=3)
    before = {file: file.read_bytes() for file in photographs.rglob("*.*")}

    class Changer(fit_module.StopIfUseless):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                for file in before:
                    change_image(file, change)

    with monkeypatch.context() as patch:
        patch.setattr(fit_module, "StopIfUseless", Changer)
        problem = r"No such file.*picture\d+" if change == "vanish" else r"picture\d+\.\w+ has changed"
        with pytest.raises(UserError, match=rf"^training stopped, finished epochs are kept: .*{problem}") as caught:
            train_and_evaluate(config, tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert caught.value.status == 2
    if change == "vanish":
        for file, content in before.items():
            file.write_bytes(content)
        continued = train_and_evaluate(config, tmp_path / "run")
        assert_same_run(train_and_evaluate(config, tmp_path / "whole"), continued)


def change_image(file, change):
    """Change an image file, in one of several ways."""
    if change == "vanish":
        file.unlink()
    elif change == "damage":
        file.write_bytes(file.read_bytes()[:-100])
    else:
        with Image.open(file) as image:
            width, height = image.size
            size = {"shrink": (10, 10), "grow": (2 * width, 2 * height), "same size": (width, height)}[change]
            Image.new("RGB", size, (1, 2, 3)).save(file, image.format)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("bad value"), "finished epochs are kept: ValueError: bad value$"),
        (TypeError("bad type"), "finished epochs are kept: TypeError: bad type$"),
        (NotImplementedError("no"), "finished epochs are kept: NotImplementedError: no$"),
        (UserError("scan.png has changed"), "finished epochs are kept: scan.png has changed$"),
        (MemoryError("12 GiB"), "the memory is not enough .*12 GiB.*smaller --batch-size"),
    ],
)
def test_exceptions_while_reading(tmp_path, photographs, error, expected):
    """TensorFlow makes errors of several types of them."""
    config = TrainConfig(dataset=str(photographs), epochs=1, batch_size=4)
    dataset = load_dataset(config)

    def read(index):
        raise error

    dataset = dataclasses.replace(dataset, train=dataclasses.replace(dataset.train, read=read))
    with pytest.raises(UserError, match=expected):
        fit_module.fit(config, dataset, tmp_path / "checkpoint")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (tf.errors.ResourceExhaustedError, "the memory is not enough (failed to allocate"),
        (tf.errors.InternalError, "finished epochs are kept: failed to allocate"),
        (tf.errors.FailedPreconditionError, "finished epochs are kept: failed to allocate"),
    ],
)
def test_errors_of_tensorflow(error, expected):
    with pytest.raises(UserError) as caught, in_one_line():
        raise error(None, None, "failed to allocate memory\nhere are some thousand lines about it")
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_trainings_leave_no_graphs_and_no_gradients_of_others(tiny, tmp_path):
    """TensorFlow keeps the functions of custom gradients for ever, and with them their graphs."""

    def graphs():
        gc.collect()
        return sum(isinstance(thing, tf.Graph) for thing in gc.get_objects())

    def register(run, dataset):
        tf.RegisterGradient(f"Of{run.name}")(lambda *_: None)

    counts = []
    for number in range(3):
        train_and_evaluate(tiny, tmp_path / f"run{number}", finish=register)
        counts.append(graphs())
    assert counts[1] == counts[2]
    with pytest.raises(KeyError, match="Ofrun0"):  # it is still there
        register(tmp_path / "run0.partial", None)


@pytest.mark.slow
def test_folder_and_colour(tmp_path, photographs):
    config = TrainConfig(dataset=str(photographs), channels=3, epochs=1, batch_size=8, noise=("poisson", "speckle"))
    run = train_and_evaluate(config, tmp_path / "run")
    assert keras.models.load_model(run / "model.keras").input_shape == (None, None, None, 3)
    assert json.loads((run / "config.json").read_text())["dataset"]["image_shape"] == [40, 40, 3]


@pytest.mark.slow
def test_real_pairs(tmp_path, photographs):
    config = TrainConfig(noisy_dir=str(photographs), clean_dir=str(photographs), epochs=1, batch_size=8)
    run = train_and_evaluate(config, tmp_path / "run")
    metrics = json.loads((run / "metrics.json").read_text())
    assert (metrics["noise"], metrics["noise_factor"], metrics["noisy"]["mse"]) == (["real pairs"], None, 0)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, "tiny-gaussian-0.5"),
        ({"noise": "speckle", "noise_factor": (0.1, 0.6)}, "tiny-speckle-0.1-0.6"),
        ({"noise": ("gaussian", "salt_and_pepper")}, "tiny-gaussian+salt_and_pepper-0.5"),
    ],
)
def test_default_name(tiny, options, name):
    config = TrainConfig(**{**tiny.to_dict(), **options})
    assert default_name(config, load_dataset(config)) == name


@pytest.mark.slow
def test_tensorboard(tiny, tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    train_and_evaluate(tiny, tmp_path / "run", tensorboard=str(tmp_path / "events"))
    (events,) = tmp_path.glob("events/train/events.*")
    assert b"epoch_images_per_second" in events.read_bytes()  # `Throughput` comes first


def test_tensorboard_is_missing(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"keras_dae\[tensorboard\]"):
        train_and_evaluate(tiny, tmp_path / "run", tensorboard=str(tmp_path / "events"))


class TestLearningRate:
    def rates(self, **options):
        schedule = learning_rate(TrainConfig(epochs=2, learning_rate=0.01, **options), steps=50)
        return [float(schedule(step)) for step in range(101)]

    def test_constant_is_a_number(self):
        assert learning_rate(TrainConfig(), 100) == 0.001

    def test_cosine(self):
        rates = self.rates(schedule="cosine")
        assert rates[0] == pytest.approx(0.01)
        assert rates[50] == pytest.approx(0.005)
        assert rates[100] == pytest.approx(0, abs=1e-9)

    @pytest.mark.parametrize(("schedule", "end"), [("cosine", 0), ("constant", 0.01)])
    def test_warmup(self, schedule, end):
        rates = self.rates(schedule=schedule, warmup_steps=20)
        assert rates[0] == 0
        assert rates[10] == pytest.approx(0.005)
        assert max(rates) == rates[20] == pytest.approx(0.01)
        assert rates[100] == pytest.approx(end, abs=1e-9)

    def test_warmup_longer_than_the_training(self):
        assert self.rates(schedule="cosine", warmup_steps=1000)[99] == pytest.approx(0.01)


class TestCommandLine:
    """Calls `main`, or starts a process where the process itself is tested."""

    def test_wrong_option_values(self, capsys, tmp_path):
        for options, expected in (
            (["--noise-factor", "-1"], "not negative"),
            (["--noise-factor", "0.5", "0.1"], "LOW HIGH"),
            (["--batch-size", "0"], "batch_size"),
            (["--patch-size", "30"], "multiple of 4"),
            (["--dataset", str(tmp_path / "nowhere")], "nowhere"),
            (["--noisy-dir", "/nowhere", "--clean-dir", "/nowhere"], "/nowhere"),
            (["--config", str(tmp_path / "missing.json")], "missing.json"),
            (["--config", "x", "--recipe", "best"], "--config or --recipe"),
        ):
            assert_user_error(
                main([*options, "--output-dir", str(tmp_path / "run")]), capsys.readouterr().err, expected
            )
        assert not any(tmp_path.iterdir())

    def test_damaged_config(self, capsys, tmp_path):
        for content, expected in (
            ("{", "cannot read"),
            ("[]", "JSON object"),
            ('{"format": 99, "config": {}}', "newer keras_dae"),
            ('{"format": 0, "config": {}}', "format 1"),
            ('{"format": 1, "config": {"colour": 1}}', "colour"),
        ):
            (tmp_path / "config.json").write_text(content)
            assert_user_error(main(["--config", str(tmp_path / "config.json")]), capsys.readouterr().err, expected)

    def test_recipe_and_overrides(self, monkeypatch):
        from keras_dae.train.__main__ import _config, parser

        options = vars(parser().parse_args(["--recipe", "best", "--epochs", "3", "--noise", "salt", "pepper"]))
        for name in ("output_dir", "overwrite", "tensorboard", "export", "resume_anyway"):
            del options[name]
        config = _config(**options)
        assert (config.recipe, config.epochs, config.noise) == ("best", 3, ("salt", "pepper"))
        assert config.schedule == "cosine"

    @pytest.mark.slow
    def test_trained_again_from_config(self, tiny_run, tmp_path):
        options = ["--config", str(tiny_run / "config.json"), "--output-dir", str(tmp_path / "again"), "--no-export"]
        assert main(options) == 0
        assert_same_run(tiny_run, tmp_path / "again")

    @pytest.mark.slow
    def test_main_job(self, digits_npz, tmp_path):
        """In a separate process: prints progress and the result, and refuses to replace the finished run."""
        command = ["keras_dae.train", "--dataset", digits_npz, "--epochs", 1, "--batch-size", 16, "--no-export"]
        done = run_module(*command, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "images_per_second" in done.stdout
        assert "20 test images: MSE" in done.stdout
        again = run_module(*command, cwd=tmp_path)
        assert_user_error(again.returncode, again.stderr, "saved_models/tiny-gaussian-0.5", "--overwrite")

    @pytest.mark.slow
    @pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
    def test_interrupted(self, digits_npz, tmp_path, which):
        command = [sys.executable, "-m", "keras_dae.train", "--dataset", digits_npz, "--output-dir", tmp_path / "run"]
        command += ["--epochs", "100000", "--batch-size", "16"]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
        process = subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        deadline = time.time() + 300
        while not list(tmp_path.glob("run.partial/checkpoint/epoch-*")):
            assert time.time() < deadline
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.1)
        process.send_signal(which)
        _, stderr = process.communicate(timeout=300)
        assert process.returncode == 130
        assert "Traceback" not in stderr
        assert "run the same command again to go on" in stderr
        assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_mnist_original_recipe_learns(mnist_dir, tmp_path):
    """Three epochs of the original's training on a fifth of MNIST already denoise well."""
    config = TrainConfig(dataset="mnist", data_dir=str(mnist_dir), limit=12_000, epochs=3)
    run = train_and_evaluate(config, tmp_path / "run")
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["noisy"]["mse"] == pytest.approx(0.1157, abs=0.0005)
    assert metrics["test"]["mse"] < 0.030
    assert metrics["images"] == 10_000
