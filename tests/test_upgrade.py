"""Runs written by earlier versions, kept in tests/data, must work in this version."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from export.recheck import check_run
from keras_dae.config import TrainConfig
from keras_dae.denoise.denoiser import load_denoiser
from keras_dae.evaluate.measure import evaluate
from keras_dae.networks.keras_file import load_model
from keras_dae.report.model_card import write_model_card
from keras_dae.runs.folder import load_config
from keras_dae.train.run import train_and_evaluate

RUNS = sorted(Path(__file__).parent.glob("data/run-format-*"))


@pytest.fixture(params=RUNS, ids=lambda path: path.name)
def run(request, tmp_path):
    """A copy that may be written to."""
    return shutil.copytree(request.param, tmp_path / request.param.name)


def test_there_is_one_of_every_format():
    from keras_dae.runs.folder import RUN_FORMAT

    assert [run.name for run in RUNS] == [f"run-format-{number + 1}" for number in range(RUN_FORMAT)]


def test_denoises_as_before(run):
    with np.load(run / "expected.npz") as expected:
        denoised = load_denoiser(run)(expected["noisy"])
        assert np.abs(denoised.astype(int) - expected["denoised"]).max() <= 1  # rounding, on another machine


@pytest.mark.slow
def test_everything_else_reads_it(run, digits_npz):
    assert load_config(run / "config.json").noise == ("gaussian", "speckle")
    assert load_model(run / "model.keras").count_params() == 112_065
    assert set(check_run(run)[0]) == {"onnx"}
    evaluation = evaluate([run], ["keras", "onnx"], dataset=str(digits_npz))
    measured = evaluation.levels[0].results[-1].psnr.mean
    assert measured == pytest.approx(json.loads((run / "metrics.json").read_text())["test"]["psnr"], abs=0.1)
    write_model_card(run)
    assert "gaussian or speckle noise 0.1 to 0.5" in (run / "README.md").read_text()


@pytest.mark.slow
def test_is_trained_again_from_its_config(run, digits_npz, tmp_path):
    config = load_config(run / "config.json", dataset=str(digits_npz), epochs=1)
    assert isinstance(config, TrainConfig)
    assert (train_and_evaluate(config, tmp_path / "again") / "model.keras").is_file()
