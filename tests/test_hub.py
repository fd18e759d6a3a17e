"""The folder for the Hugging Face hub: its header, its card and its files, offline."""

import json
import re
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import keras
import numpy as np
import onnxruntime
import pytest
from conftest import assert_user_error
from huggingface_hub import ModelCard
from huggingface_hub.repocard import metadata_load
from huggingface_hub.repocard_data import eval_results_to_model_index, model_index_to_eval_results

from export import to_hub
from export.__main__ import main
from export.parity import cases
from export.run import export_run
from export.to_hub import header
from export.to_onnx import export_onnx
from keras_dae.config import TrainConfig
from keras_dae.evaluate.measure import evaluate
from keras_dae.networks.autoencoder import build_autoencoder
from keras_dae.runs.metrics_file import ImageMetrics, RunMetrics
from keras_dae.runs.noise_setting import NoiseSetting
from keras_dae.train.run import train_and_evaluate

FILES = {"README.md", "config.json", "metrics.json", "parity.json", "model.keras", "samples.png"}
FILES |= {"onnx/model.onnx", "onnx/model_quantized.onnx"}
MEANS = ImageMetrics(mse=1e-5, psnr=50.0, ssim=1.0)
METRICS = RunMetrics(
    dataset="mnist",
    dataset_sha256="",
    images=4,
    patches=None,
    noise=NoiseSetting(("gaussian",), (0.1, 0.5)),
    clip=True,
    test=MEANS,
    noisy=MEANS,
    median=MEANS,
    parameters=112_065,
    epochs=1,
    training_seconds=1.0,
)


@pytest.fixture(scope="module", autouse=True)
def few_cases():
    """Few parity cases; test_export.py runs all of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cases, "BATCH_SIZES", (2,))
        patch.setattr(cases, "IMAGE_SIZES", ((28, 28), (5, 3)))
        yield


@pytest.fixture(scope="module")
def trained(digits_npz, tmp_path_factory):
    """A finished run with exports and an evaluation; tests must not change it."""
    config = TrainConfig(dataset=str(digits_npz), epochs=1, batch_size=16, initialization="he")
    run = train_and_evaluate(config, tmp_path_factory.mktemp("hub") / "run")
    export_run(run, formats=("onnx", "int8"))
    evaluate([run])
    return run


@pytest.fixture(scope="module")
def hub(trained):
    """The folder for the hub."""
    assert main([str(trained), "--formats", "hf", "--output-dir", str(trained.parent / "hub")]) == 0
    return trained.parent / "hub"


@pytest.fixture
def run(trained, tmp_path):
    return Path(shutil.copytree(trained, tmp_path / "run"))


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class TestFolder:
    @pytest.mark.slow
    def test_files(self, hub, trained):
        names = {name for name in content(hub) if not name.startswith("evaluation/")}
        assert names == FILES
        assert (hub / "evaluation/psnr.png").is_file()
        for name, origin in (
            ("model.keras", "model.keras"),
            ("onnx/model.onnx", "model.onnx"),
            ("onnx/model_quantized.onnx", "model.int8.onnx"),
        ):
            assert (hub / name).read_bytes() == (trained / origin).read_bytes()
        assert {path.name for path in hub.parent.iterdir()} <= {"run", "hub", ".run.lock", ".hub.lock"}

    def test_header_is_what_the_hub_reads(self, hub, trained):
        card = ModelCard.load(hub / "README.md")
        data = card.data.to_dict()
        assert data["library_name"] == "keras"
        assert data["pipeline_tag"] == "image-to-image"
        assert data["license"] == "apache-2.0"
        assert {"keras", "onnx", "denoising"} <= set(data["tags"])
        measured = json.loads((trained / "metrics.json").read_text())["test"]
        results = {result.metric_type: result for result in card.data.eval_results}
        assert set(results) == {"mse", "psnr", "ssim"}
        for name, result in results.items():
            assert result.metric_value == pytest.approx(measured[name], abs=1e-6)
            assert (result.task_type, result.dataset_split) == ("image-to-image", "test")
            assert result.dataset_name == "tiny with gaussian noise 0.5"
        # The hub's own reader and writer lose nothing of the header.
        index = metadata_load(hub / "README.md")["model-index"]
        assert eval_results_to_model_index(*model_index_to_eval_results(index)) == index

    def test_card_is_that_of_the_run(self, hub, trained):
        text = ModelCard.load(hub / "README.md").text
        own = (trained / "README.md").read_text(encoding="utf-8")
        assert text.strip().split("\n## Exports\n")[0] == own.split("\n## Exports\n")[0]
        assert text.strip().split("\n## Limits\n")[1] == own.strip().split("\n## Limits\n")[1]
        for name in re.findall(r"\]\((?!http)(.*?)\)", text):
            assert (hub / name).is_file(), name

    @pytest.mark.parametrize("library", ["keras", "onnxruntime"])
    def test_its_python_runs(self, hub, library, monkeypatch):
        noisy = np.random.default_rng(0).random((2, 24, 28, 1), np.float32)
        blocks = re.findall(r"```python\n(.*?)```", (hub / "README.md").read_text(encoding="utf-8"), re.DOTALL)
        monkeypatch.chdir(hub)
        names = {"noisy": noisy}
        exec(next(code for code in blocks if library in code), names)
        expected = keras.models.load_model("model.keras")(noisy)
        np.testing.assert_allclose(names["denoised"], expected, atol=1e-5)

    def test_parity_json_describes_these_files(self, hub):
        import hashlib

        parity = json.loads((hub / "parity.json").read_text())
        assert set(parity) == {"onnx", "int8"}
        for entry in parity.values():
            assert hashlib.sha256((hub / entry["file"]).read_bytes()).hexdigest() == entry["sha256"]
        assert parity["int8"]["psnr_lost_db"] <= 0.1

    def test_holds_no_path_of_this_machine(self, hub, digits_npz):
        assert json.loads((hub / "config.json").read_text())["config"]["dataset"] == "tiny.npz"
        for name, data in content(hub).items():
            assert str(digits_npz.parent).encode() not in data, name

    def test_quantized_runs(self, hub):
        session = onnxruntime.InferenceSession(hub / "onnx" / "model_quantized.onnx")
        (denoised,) = session.run(["denoised"], {"noisy": np.zeros((1, 30, 45, 1), np.float32)})
        assert denoised.shape == (1, 30, 45, 1)


class TestHeader:
    @pytest.mark.parametrize(
        "name", ['my "best": scans', "- [a, b] # c", "ünïcode 😀", "line\nbreak", "yes", "1e3", "\\n"]
    )
    def test_any_name(self, name):
        card = ModelCard(header(replace(METRICS, dataset=name)) + "\n# Text\n")
        name = name.replace("\n", "\\n")
        result = card.data.eval_results[0]
        assert result.dataset_name == f"{name} with gaussian noise 0.1 to 0.5"
        assert card.data.model_name == f"Denoiser for {name}"
        assert {r.metric_type: r.metric_value for r in card.data.eval_results} == asdict(MEANS)

    def test_known_data_set(self):
        card = ModelCard(header(METRICS))
        assert card.data.datasets == ["ylecun/mnist"]
        assert card.data.eval_results[0].dataset_type == "ylecun/mnist"


class TestRefused:
    def check(self, capsys, command, *expected):
        assert_user_error(main([str(part) for part in command]), capsys.readouterr().err, *expected)

    @pytest.mark.slow
    def test_overwrite(self, trained, hub, tmp_path, capsys):
        made = Path(shutil.copytree(hub, tmp_path / "made"))
        (made / "README.md").write_text("older")
        command = [trained, "--formats", "hf", "--output-dir", made]
        self.check(capsys, command, "--overwrite")
        assert (made / "README.md").read_text() == "older"
        assert main([*map(str, command), "--overwrite"]) == 0
        assert content(made) == content(hub)

    @pytest.mark.parametrize("name", ["run", "clone", "file"])
    def test_never_overwrites_anything_else(self, run, hub, tmp_path, capsys, name):
        target = tmp_path / name
        if name == "clone":
            shutil.copytree(hub, target)
            (target / ".git").mkdir()
        if name == "file":
            target.write_text("")
        before = content(tmp_path)
        self.check(capsys, [run, "--formats", "hf", "--output-dir", target, "--overwrite"], target)
        assert content(tmp_path) == before

    def test_run_without_exports(self, run, tmp_path, capsys):
        (run / "model.onnx").unlink()
        self.check(capsys, [run, "--formats", "hf", "--output-dir", tmp_path / "hub"], f"python -m export {run}")
        assert not (tmp_path / "hub").exists()

    def test_weights_without_a_training(self, run, tmp_path, capsys):
        (run / "metrics.json").unlink()
        self.check(capsys, [run, "--formats", "hf", "--output-dir", tmp_path / "hub"], "no metrics.json")

    def test_hf_must_be_alone_and_needs_a_folder(self, run, tmp_path, capsys):
        self.check(capsys, [run, "--formats", "hf"], "--output-dir")
        self.check(capsys, [run, "--formats", "hf", "onnx", "--output-dir", tmp_path / "hub"], "alone")

    @pytest.mark.slow
    def test_an_export_that_fails_the_check_is_not_published(self, run, tmp_path, capsys):
        export_onnx(build_autoencoder(initialization="torch", seed=9), run / "model.onnx")
        assert main([str(run), "--formats", "hf", "--output-dir", str(tmp_path / "hub")]) == 1
        assert "model.onnx: noise 2×28×28: differs by" in capsys.readouterr().err
        assert not (tmp_path / "hub").exists()

    def test_failing_halfway_leaves_nothing(self, run, tmp_path, monkeypatch, capsys):
        def full(*args):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(to_hub, "check_run", lambda run, formats: ({}, {}))
        monkeypatch.setattr(to_hub, "write_json", full)
        self.check(capsys, [run, "--formats", "hf", "--output-dir", tmp_path / "hub"], "No space left")
        assert {path.name for path in tmp_path.iterdir()} <= {"run", ".hub.lock"}

    @pytest.mark.slow
    def test_without_int8(self, run, tmp_path):
        """`export_run` leaves out an 8-bit model that loses too much."""
        (run / "model.int8.onnx").unlink()
        assert main([str(run), "--formats", "hf", "--output-dir", str(tmp_path / "hub")]) == 0
        assert [path.name for path in (tmp_path / "hub/onnx").iterdir()] == ["model.onnx"]
        assert set(json.loads((tmp_path / "hub/parity.json").read_text())) == {"onnx"}
