"""LiteRT: model.tflite, its parity check, and what other programs do with it."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import assert_user_error

from export import artefacts, to_litert
from export.__main__ import main
from export.parity import cases
from export.parity.cases import reference
from export.parity.check import ParityError, verify
from export.to_litert import export_litert
from keras_dae.errors import UserError
from keras_dae.networks.autoencoder import build_autoencoder
from keras_dae.networks.keras_file import save_model

needs_litert = pytest.mark.skipif(
    not importlib.util.find_spec("ai_edge_litert"), reason="ai-edge-litert is not installed: pip install -e '.[litert]'"
)


@pytest.fixture(scope="module")
def tflite(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("litert") / "model.tflite"
    export_litert(model, path)
    return path


@pytest.fixture
def run(model, tmp_path):
    """A folder that holds only model.keras."""
    save_model(model, tmp_path / "run" / "model.keras")
    return tmp_path / "run"


@pytest.fixture
def few_cases(monkeypatch):
    """Few parity cases, for tests that look at the reaction to wrong artefacts."""
    monkeypatch.setattr(cases, "BATCH_SIZES", (2,))
    monkeypatch.setattr(cases, "IMAGE_SIZES", ((28, 28), (5, 3)))


@needs_litert
class TestVerify:
    @pytest.mark.slow
    def test_equals_keras_at_every_size(self, model, tflite):
        (entry,) = verify(model, {"litert": tflite}).values()
        assert entry["max_abs_error"] < 5e-6
        assert entry["sizes"] == ["28×28", "20×20", "64×48", "37×50", "17×17", "5×3", "1×1"]
        assert {"tensorflow", "ai-edge-litert"} < set(entry["versions"])

    @pytest.mark.slow
    def test_colour(self, tmp_path, few_cases):
        model = build_autoencoder((None, None, 3), "torch", seed=1)
        export_litert(model, tmp_path / "model.tflite")
        assert verify(model, {"litert": tmp_path / "model.tflite"})["litert"]["max_abs_error"] < 5e-6

    def test_stale_file(self, model, tflite, few_cases):
        newer = keras.models.clone_model(model)
        newer.set_weights([weight * 1.001 for weight in model.get_weights()])
        with pytest.raises(ParityError, match=r"model\.tflite: .*differs by"):
            verify(newer, {"litert": tflite})

    @pytest.mark.slow
    @pytest.mark.parametrize("size", [-5000, 0])
    def test_artefact_that_does_not_run(self, model, tflite, tmp_path, few_cases, size):
        (tmp_path / "broken.tflite").write_bytes(tflite.read_bytes()[:size])
        with pytest.raises(ParityError, match=r"broken\.tflite does not run"):
            verify(model, {"litert": tmp_path / "broken.tflite"})


@needs_litert
class TestUsers:
    def test_resized_by_hand_without_tensorflow(self, model, tflite, tmp_path):
        noisy = np.random.default_rng(0).random((2, 30, 45, 1), np.float32)
        np.save(tmp_path / "noisy.npy", noisy)
        code = """
import sys
import numpy as np
from ai_edge_litert.interpreter import Interpreter

interpreter = Interpreter("model.tflite")
noisy = np.load(sys.argv[1])
(taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()
assert taken["dtype"] == given["dtype"] == np.float32
interpreter.resize_tensor_input(taken["index"], noisy.shape)
interpreter.allocate_tensors()
interpreter.set_tensor(taken["index"], noisy)
interpreter.invoke()
np.save(sys.argv[2], interpreter.get_tensor(given["index"]))
assert not {"tensorflow", "keras"} & set(sys.modules)
"""
        files = [tmp_path / "noisy.npy", tmp_path / "denoised.npy"]
        subprocess.run([sys.executable, "-c", code, *files], cwd=tflite.parent, check=True)
        np.testing.assert_allclose(np.load(tmp_path / "denoised.npy"), reference(model, noisy), atol=1e-5)

    def test_the_code_in_the_docs(self, model, tflite, monkeypatch):
        page = (Path(__file__).parent.parent / "docs" / "exports.md").read_text(encoding="utf-8")
        code = page.split("## LiteRT")[1].split("```python\n")[1].split("```")[0]
        monkeypatch.chdir(tflite.parent)
        names = {"noisy": np.random.default_rng(1).random((1, 17, 50, 1), np.float32)}
        exec(code, names)
        np.testing.assert_allclose(names["denoised"], reference(model, names["noisy"]), atol=1e-5)

    def test_every_operator_is_built_in(self, tflite):
        """Custom and `Flex` operators need a runtime with TensorFlow built in."""
        from tensorflow.lite.python import schema_py_generated as schema

        content = schema.Model.GetRootAs(tflite.read_bytes())
        codes = {content.OperatorCodes(i).BuiltinCode() for i in range(content.OperatorCodesLength())}
        assert schema.BuiltinOperator.CONV_2D in codes
        assert schema.BuiltinOperator.CUSTOM not in codes

    def test_size(self, tflite):
        assert tflite.stat().st_size < 500_000


@needs_litert
class TestRun:
    @pytest.mark.slow
    def test_written_verified_and_checked(self, run, capsys, few_cases):
        assert main([str(run), "--formats", "litert"]) == 0
        assert {path.name for path in run.iterdir()} == {"model.keras", "model.tflite", "parity.json"}
        (entry,) = json.loads((run / "parity.json").read_text()).values()
        assert entry["file"] == "model.tflite"
        assert entry["max_abs_error"] <= entry["tolerance"] == 1e-5
        assert main([str(run), "--check"]) == 0
        assert capsys.readouterr().out.count("model.tflite: equals Keras within") == 2
        export_litert(build_autoencoder(initialization="torch", seed=9), run / "model.tflite")
        assert main([str(run), "--check"]) == 1
        assert "model.tflite: noise 2×28×28: differs by" in capsys.readouterr().err

    @pytest.mark.slow
    def test_a_difference_leaves_all_files_untouched(self, run, monkeypatch, few_cases):
        def wrong(model, path):
            shutil.copy(run / "wrong.tflite", path)

        export_litert(build_autoencoder(initialization="torch", seed=9), run / "wrong.tflite")
        monkeypatch.setattr(to_litert, "export_litert", wrong)
        before = {path.name for path in run.iterdir()}
        assert main([str(run), "--formats", "litert"]) == 1
        assert {path.name for path in run.iterdir()} == before

    def test_not_among_the_defaults(self):
        assert artefacts.DEFAULT_FORMATS == ("saved_model", "onnx", "int8")


class TestMissingPackage:
    """ai-edge-litert is not installed."""

    @pytest.fixture(autouse=True)
    def missing(self, monkeypatch):
        monkeypatch.setattr(artefacts, "find_spec", lambda name: None)

    @pytest.mark.parametrize("command", [["--formats", "litert"], ["--formats", "litert", "--check"], ["--check"]])
    def test_one_line(self, run, capsys, command):
        (run / "model.tflite").write_bytes(b"")
        before = sorted(path.name for path in run.iterdir())
        status = main([str(run), *command])
        assert_user_error(status, capsys.readouterr().err, "pip install 'keras_dae[litert]'")
        assert sorted(path.name for path in run.iterdir()) == before


def test_tensorflow_has_tf_lite():
    """Keras's exporter and `export_litert` use it. It is public, but deprecated: TensorFlow 2.21 still has it."""
    assert tf.lite.OpsSet.TFLITE_BUILTINS, f"TensorFlow {tf.__version__} has no tf.lite; see what Keras's exporter uses"


def test_another_network_is_refused(tmp_path):
    other = keras.Sequential([keras.Input((None, None, 1)), keras.layers.Conv2D(1, 3)])
    with pytest.raises(UserError, match="not this network"):
        export_litert(other, tmp_path / "model.tflite")
    assert not any(tmp_path.iterdir())
