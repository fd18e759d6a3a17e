"""Training on a GPU, or on several: skipped where there is none."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from keras_dae.config import TrainConfig
from keras_dae.denoise.denoiser import load_denoiser
from keras_dae.train.run import train_and_evaluate


def gpu_count():
    """Return the number of GPUs that TensorFlow sees, asked in another process, which then frees them."""
    code = "import tensorflow as tf; print(len(tf.config.list_physical_devices('GPU')))"
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    return int(subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True).stdout)


def needs_gpus(count):
    if not Path("/dev/nvidiactl").exists() or gpu_count() < count:
        pytest.skip(f"expected at least {count} GPU, GPU missing")


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2])
def test_training_on_gpus(count, digits_npz, tmp_path):
    """The model that was trained on GPUs has nearly the same quality on the CPU, by onnxruntime."""
    needs_gpus(count)
    from export.run import export_run
    from keras_dae.runs.metrics_file import read_metrics

    run = train_and_evaluate(TrainConfig(dataset=str(digits_npz), epochs=3, batch_size=16), tmp_path / "run")
    export_run(run, formats=("onnx",))
    metrics = read_metrics(run / "metrics.json")
    with np.load(digits_npz) as arrays:
        clean = arrays["x_test"].astype(np.float32) / 255
    noise = np.random.default_rng(0).normal(0, 0.5, clean.shape).astype(np.float32)
    denoised = load_denoiser(run)(np.clip(clean + noise, 0, 1)[..., None])[..., 0]
    assert np.mean((denoised - clean) ** 2) == pytest.approx(metrics.test.mse, rel=0.1)
