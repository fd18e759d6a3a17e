"""Fixtures and functions that several test files use."""

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # the tests import onnxruntime themselves; test_telemetry.py unsets it

# A shell that starts the tests in the background makes them, and all that they start, ignore SIGINT.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import numpy as np
import pytest
from own_network import pytest_configure, pytest_runtest_protocol  # noqa: F401 - hooks
from PIL import Image

# Fixtures that train a model or start Ray: each test that uses one of them is slow. `test_model_card.run` is left out,
# so that the fast tests train and check one small model.
SLOW_FIXTURES = {
    "test_damaged": {"run"},
    "test_denoise_ray": {"cluster"},
    "test_evaluate": {"run"},
    "test_export": {"trained"},
    "test_faults": {"zygote"},
    "test_fuzz": {"targets"},
    "test_hub": {"trained"},
}


def pytest_collection_modifyitems(items):
    """Mark the tests that use SLOW_FIXTURES as slow."""
    for item in items:
        if SLOW_FIXTURES.get(item.module.__name__, set()) & set(item.fixturenames):
            item.add_marker("slow")


@pytest.fixture(scope="session")
def digits():
    """80 rendered digits, uint8 (80, 28, 28)."""
    from keras_dae.data.digits import render_digits

    return render_digits(80, seed=7)[0]


@pytest.fixture(scope="session")
def digits_npz(digits, tmp_path_factory):
    """An .npz file with 80 training and 20 test digits."""
    path = tmp_path_factory.mktemp("digits") / "tiny.npz"
    np.savez(path, x_train=digits, x_test=digits[:20])
    return path


@pytest.fixture(scope="module")
def model():
    """An untrained network whose outputs vary: weights of PyTorch's initialization, times 3."""
    from keras_dae.networks.autoencoder import build_autoencoder

    model = build_autoencoder(initialization="torch", seed=0)
    model.set_weights([3 * weight for weight in model.get_weights()])
    return model


@pytest.fixture
def photographs(tmp_path):
    """A folder with 12 smooth colour pictures from 40×52 to 84×96 pixels, in several formats and with a subfolder."""
    folder = tmp_path / "photographs"
    (folder / "more").mkdir(parents=True)
    for index, suffix in enumerate(["png", "jpg", "tif", "bmp", "jpeg", "PNG"] * 2):
        height, width = 40 + 4 * index, 52 + 4 * index
        image = Image.fromarray(smooth_picture(height, width, index))
        place = folder / "more" if index % 2 else folder
        image.save(place / f"picture{index}.{suffix}")
    return folder


def smooth_picture(height, width, seed, channels=3):
    """Return a picture of a few waves: uint8 (height, width, channels)."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width][..., None]
    waves = sum(
        np.sin(random.uniform(-0.3, 0.3, channels) * y + random.uniform(-0.3, 0.3, channels) * x) for _ in "abc"
    )
    return np.uint8(np.clip(127 + 40 * waves, 0, 255))


@pytest.fixture(scope="session")
def mnist_dir():
    """The folder with the real mnist.npz; the test is skipped if there is none."""
    folder = os.environ.get("KERAS_DAE_DATA")
    if not folder or not Path(folder, "mnist.npz").is_file():
        pytest.skip("KERAS_DAE_DATA names no folder with mnist.npz")
    return Path(folder).resolve()


def run_module(*arguments, cwd=None, env=None, timeout=300):
    """Run `python -m …` in a new process; return the finished process, with stdout and stderr as text."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent), **(env or {})}
    command = [sys.executable, "-m", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout)


def assert_user_error(status, stderr, *expected):
    """Check that a command ended with exit status 2 and one error line that holds `expected`, without a traceback."""
    assert status == 2, stderr
    assert "Traceback" not in stderr
    (line,) = [line for line in stderr.splitlines() if line.startswith("error: ")]
    for part in expected:
        assert str(part) in line


def weights(run):
    """Return the weights of the model in a run folder."""
    import keras

    return keras.models.load_model(run / "model.keras").get_weights()


def assert_same_run(first, second):
    """Check that two runs are the same, except for the times."""
    assert all(np.array_equal(a, b) for a, b in zip(weights(first), weights(second)))

    def untimed(run):
        metrics = json.loads((run / "metrics.json").read_text())
        del metrics["training_seconds"]
        with open(run / "history.csv") as file:
            rows = [dict(row, seconds="", images_per_second="") for row in csv.DictReader(file)]
        return metrics, rows

    assert untimed(first) == untimed(second)
    assert (first / "samples.png").read_bytes() == (second / "samples.png").read_bytes()
