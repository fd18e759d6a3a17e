"""The commands under what a user's environment may hold; what library calls leave alone in it."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import assert_user_error, run_module, weights

from keras_dae.cli import COMMANDS

TRAIN = ("keras_dae.train", "--epochs", "2", "--batch-size", "20")
KERAS_JSON = '{"floatx": "float16", "epsilon": 1e-07, "backend": "torch", "image_data_format": "channels_first"}'


def train(dataset, output_dir, *options, **environment):
    done = run_module(*TRAIN, "--dataset", dataset, "--output-dir", output_dir, *options, env=environment)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def plain(digits_npz, tmp_path_factory):
    """A run trained without anything odd in the environment."""
    folder = tmp_path_factory.mktemp("plain") / "run"
    home = tmp_path_factory.mktemp("home")
    train(digits_npz, folder, "--no-export", KERAS_HOME=str(home))
    return folder


def assert_same_results(run, plain):
    assert all(np.array_equal(a, b) for a, b in zip(weights(run), weights(plain), strict=True))
    assert (run / "samples.png").read_bytes() == (plain / "samples.png").read_bytes()
    assert len((run / "history.csv").read_text().splitlines()) == 3


@pytest.mark.slow
def test_kerass_settings_do_not_matter(plain, digits_npz, tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "keras.json").write_text(KERAS_JSON)
    limits = {"KERAS_MAX_EPOCHS": "1", "KERAS_MAX_STEPS_PER_EPOCH": "1", "TF_USE_LEGACY_KERAS": "1"}
    train(digits_npz, tmp_path / "run", "--no-export", KERAS_HOME=str(tmp_path / "home"), KERAS_BACKEND="jax", **limits)
    assert_same_results(tmp_path / "run", plain)
    evaluated = run_module(
        *("keras_dae.evaluate", tmp_path / "run", "--backend", "keras", "--limit", 10),
        env={"KERAS_HOME": str(tmp_path / "home")},
    )
    assert evaluated.returncode == 0, evaluated.stderr


@pytest.mark.slow
def test_other_settings_do_not_matter(plain, digits_npz, tmp_path):
    """Folders that are missing, a locale without UTF-8, warnings as errors, the user's style of plots."""
    (tmp_path / "matplotlibrc").write_text("axes.facecolor: black\nfont.size: 20\nimage.cmap: viridis\n")
    odd = {"MATPLOTLIBRC": str(tmp_path), "MPLBACKEND": "TkAgg", "KERAS_HOME": "/proc/none", "TMPDIR": "/none"}
    odd |= {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii:strict"}
    odd |= {"OMP_NUM_THREADS": "0", "PYTHONWARNINGS": "error", "HOME": "/none"}
    train(digits_npz, tmp_path / "run", **odd)
    assert_same_results(tmp_path / "run", plain)
    assert (tmp_path / "run" / "loss.png").read_bytes() == (plain / "loss.png").read_bytes()
    assert (tmp_path / "run" / "model.onnx").is_file()


@pytest.mark.parametrize("command", COMMANDS)
def test_help_in_ascii(command):
    done = run_module("keras_dae", command, "--help", env={"PYTHONIOENCODING": "ascii:strict"})
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout


def test_closed_streams(digits, tmp_path):
    """Python has no object for a stream that is closed when it starts."""
    np.save(tmp_path / "digit.npy", digits[0])
    job = f"{sys.executable} -m keras_dae.denoise --model mnist"
    for options in ("digit.npy --output-dir out 2>&-", "digit.npy --output-dir all <&- >&- 2>&-"):
        done = subprocess.run(f"{job} {options}", shell=True, cwd=tmp_path, timeout=300)
        assert done.returncode == 0
    assert (tmp_path / "all/digit.npy").read_bytes() == (tmp_path / "out/digit.npy").read_bytes()
    for options, expected in (("- <&-", "an image on standard input"), ("- <digit.npy >&-", "an open standard output")):
        done = subprocess.run(f"{job} {options}", shell=True, cwd=tmp_path, timeout=300, capture_output=True, text=True)
        assert_user_error(done.returncode, done.stderr, f"expected {expected}")


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(("reader", "expected"), [("> /dev/full", "No space left on device"), ("| true", None)])
def test_output_that_cannot_be_written(reader, expected, unbuffered):
    """An error, unless the reader of a pipe wants no more."""
    job = f"{sys.executable} -c 'import time; time.sleep(1); from keras_dae.models import main; exit(main([]))'"
    done = subprocess.run(
        ["bash", "-c", f"{job} {reader}; exit $PIPESTATUS"],
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        capture_output=True,
        text=True,
    )
    if expected:
        assert_user_error(done.returncode, done.stderr, "cannot write to standard output", expected)
    else:
        assert (done.returncode, done.stderr) == (2, "")


def test_errors_in_ascii(tmp_path):
    """The message holds the name of the file, and characters that ASCII lacks are escaped."""
    done = run_module(
        *("keras_dae.denoise", tmp_path / "nicht-größer.png", "--model", "mnist", "--output-dir", tmp_path / "out"),
        env={"PYTHONIOENCODING": "ascii:strict"},
    )
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr and r"nicht-gr\xf6\xdfer.png" in done.stderr + done.stdout


@pytest.mark.slow
def test_training_says_its_device_and_errors_of_tensorflow_are_seen(digits_npz, tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    code = (
        "import os, sys; from keras_dae._util.command import prepare_command; prepare_command()\n"
        "assert os.environ['TF_CPP_MIN_LOG_LEVEL'] == '2' and os.environ['KERAS_BACKEND'] == 'tensorflow'\n"
        "assert not {'keras', 'tensorflow', 'numpy'} & set(sys.modules)"
    )
    root = str(Path(__file__).parent.parent)
    subprocess.run([sys.executable, "-c", code], env=environment | {"PYTHONPATH": root}, check=True)
    done = train(digits_npz, tmp_path / "run", "--no-export", CUDA_VISIBLE_DEVICES="-1")
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("training on ")]
    assert line.startswith("training on the CPU (") and line.endswith(" cores); TensorFlow sees no GPU")


LIBRARY = """
import os, keras, numpy
settings = lambda: (
    keras.backend.backend(), keras.config.floatx(), keras.config.image_data_format(), keras.config.dtype_policy().name
)
before, found = dict(os.environ), settings()
from keras_dae import TrainConfig, UserError, build_autoencoder, load_denoiser, to_state_dict, train_and_evaluate
assert dict(os.environ) == before
model = build_autoencoder(seed=0)
assert {layer.dtype for layer in model.layers} == {"float32"}
assert model.get_layer("encoder_conv1").data_format == "channels_last"
assert model(numpy.zeros((1, 28, 32, 1), "float32")).shape == (1, 28, 32, 1)
from keras_dae.networks.keras_file import load_model, save_model
save_model(model, "model.keras")
for key, value in to_state_dict(load_model("model.keras")).items():
    assert (value == to_state_dict(model)[key]).all()
try:
    train_and_evaluate(TrainConfig(dataset="digits", limit=100, epochs=1), "run")
except UserError as error:
    print(error)
assert found == settings()
print(*found)
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "torch"])
def test_library_leaves_the_users_keras_alone(tmp_path, backend):
    """Under the user's own settings, everything works that needs no TensorFlow; training says what it needs."""
    pytest.importorskip(backend, reason=f"{backend} is not installed")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "keras.json").write_text(KERAS_JSON.replace("torch", backend))
    environment = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
    environment |= {"KERAS_HOME": str(tmp_path / "home"), "PYTHONPATH": str(Path(__file__).parent.parent)}
    command = [sys.executable, "-c", LIBRARY]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"{backend} float16 channels_first float16"
    refused = "training needs Keras on TensorFlow, got the backend torch; set KERAS_BACKEND=tensorflow" in done.stdout
    assert refused == (backend == "torch")
    assert (tmp_path / "run" / "model.keras").is_file() == (backend == "tensorflow")
