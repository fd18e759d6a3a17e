"""The shipped models: found by name, small, and denoisers."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from keras_dae import pretrained
from keras_dae.data.digits import render_digits
from keras_dae.denoise.denoiser import load_denoiser
from keras_dae.errors import UserError


@pytest.mark.slow
@pytest.mark.parametrize("name", pretrained.MODEL_NAMES)
def test_denoises_digits(name):
    clean = render_digits(50, seed=1)[0][..., None]
    noise = np.random.default_rng(0).standard_normal(clean.shape, np.float32)
    noisy = np.clip(np.float32(clean) / 255 + 0.5 * noise, 0, 1)
    before, after = ((images - np.float32(clean) / 255) ** 2 for images in (noisy, load_denoiser(name)(noisy)))
    assert after.mean() < before.mean() / 5


def test_all_together_take_less_than_5_megabytes():
    files = [
        file for name in pretrained.MODEL_NAMES for file in pretrained.model_folder(name).rglob("*") if file.is_file()
    ]
    assert sum(file.stat().st_size for file in files) < 5e6


@pytest.mark.parametrize("name", pretrained.MODEL_NAMES)
def test_has_a_card_and_parity_results(name):
    run = pretrained.model_folder(name)
    for file in ("README.md", "config.json", "parity.json", "metrics.json", "model.keras", "model.int8.onnx"):
        assert (run / file).is_file()
    assert (run / "evaluation" / "evaluation.json").is_file()


def test_unknown_name():
    with pytest.raises(UserError, match="mnist or mnist-blind, got 'imagenet'"):
        pretrained.model_folder("imagenet")
    with pytest.raises(UserError, match=r"a \.onnx file, or mnist or mnist-blind; got imagenet"):
        load_denoiser("imagenet")


def test_a_run_of_the_same_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mnist").mkdir()
    assert pretrained.find_model("mnist") == pretrained.model_folder("mnist")  # a folder of images, say
    Path("mnist", "model.onnx").write_bytes(b"")
    assert pretrained.find_model("mnist") == Path("mnist")


def test_lists_them_without_tensorflow():
    code = "import sys; from keras_dae.models import main; main(); sys.exit('tensorflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == list(pretrained.MODEL_NAMES)
    assert "dB denoised" in done.stdout
