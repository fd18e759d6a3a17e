import json

import numpy as np
import pytest
from conftest import assert_user_error

from keras_dae.config import TrainConfig
from keras_dae.evaluate import evaluate, main
from keras_dae.train import train_and_evaluate


@pytest.fixture(scope="module")
def run(digits_npz, tmp_path_factory):
    config = TrainConfig(dataset=str(digits_npz), epochs=1, batch_size=16)
    return train_and_evaluate(config, tmp_path_factory.mktemp("evaluate") / "run")


def test_gives_the_runs_own_metrics(run):
    measured = evaluate(run)
    metrics = json.loads((run / "metrics.json").read_text())
    assert measured["noisy"] == metrics["noisy"]
    assert measured["denoised"] == pytest.approx(metrics["test"])


def test_other_images(run, digits, tmp_path, capsys):
    np.savez(tmp_path / "other.npz", x_train=digits, x_test=255 - digits[:6])
    assert main([str(run), "--dataset", str(tmp_path / "other.npz")]) == 0
    header, noisy, denoised = capsys.readouterr().out.splitlines()
    assert header.split() == ["MSE", "PSNR/dB", "SSIM"]
    assert noisy.startswith("run, noisy")
    measured = evaluate(run, dataset=str(tmp_path / "other.npz"))
    assert float(denoised.split()[-3]) == pytest.approx(measured["denoised"]["mse"], abs=1e-5)


def test_no_run(tmp_path, capsys):
    assert_user_error(main([str(tmp_path)]), capsys.readouterr().err, "config.json")
