import json
import re

import pytest

from export.run import export_run
from keras_dae.config import TrainConfig
from keras_dae.denoise.denoiser import load_denoiser
from keras_dae.errors import UserError
from keras_dae.report.model_card import write_model_card
from keras_dae.train.run import train_and_evaluate


@pytest.fixture(scope="module")
def run(digits_npz, tmp_path_factory):
    config = TrainConfig(dataset=str(digits_npz), epochs=1, batch_size=16)
    run = train_and_evaluate(config, tmp_path_factory.mktemp("card") / "run")
    export_run(run, formats=("onnx",))
    return run


@pytest.mark.slow
def test_says_what_it_is_and_how_it_was_measured(run):
    card = (run / "README.md").read_text()
    metrics = json.loads((run / "metrics.json").read_text())
    assert card.startswith("# Denoiser for tiny\n")
    assert "76 images of **tiny** with gaussian noise 0.5" in card
    assert json.loads((run / "config.json").read_text())["dataset"]["sha256"] in card
    for name, key in (("noisy input", "noisy"), ("3×3 median", "median"), ("**denoised**", "test")):
        values = metrics[key]
        assert f"| {name} | {values['mse']:.5f} | {values['psnr']:.2f} | {values['ssim']:.3f} |" in card
    error = json.loads((run / "parity.json").read_text())["onnx"]["max_abs_error"]
    assert f"| onnx | {error:.2g} |" in card
    for heading in ("Training", "Results", "Exports", "Usage", "Limits"):
        assert f"\n## {heading}\n" in card
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", card):
        assert (run / picture).is_file()


@pytest.mark.parametrize("library", ["keras", "onnxruntime"])
def test_its_python_runs(run, library, monkeypatch):
    """The code of the card, unchanged, in the run folder."""
    import numpy as np

    noisy = np.random.default_rng(0).random((2, 24, 28, 1), np.float32)
    code = next(
        code
        for code in re.findall(r"```python\n(.*?)```", (run / "README.md").read_text(), re.DOTALL)
        if library in code
    )
    monkeypatch.chdir(run)
    names = {"noisy": noisy}
    exec(code, names)
    np.testing.assert_allclose(names["denoised"], load_denoiser(".")(noisy), atol=1e-5)


def test_needs_a_training(tmp_path):
    write_model_card(tmp_path)
    assert not (tmp_path / "README.md").exists()
    (tmp_path / "metrics.json").write_text("{}")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="as this package writes it"):
        write_model_card(tmp_path)
