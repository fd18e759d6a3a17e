import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf
from conftest import assert_user_error
from safetensors.numpy import save_file

import export
from export import int8_loss, recheck, to_int8, to_onnx
from export.__main__ import main
from export.graph import padded_size, reflected_index
from export.graph.autoencoder import in_blocks
from export.int8_loss import calibration_images
from export.parity import cases, check
from export.parity.check import TOLERANCE, ParityError, verify
from export.run import export_run
from export.to_int8 import export_int8, without_advice
from export.to_onnx import export_onnx
from export.to_saved_model import export_saved_model
from keras_dae.config import TrainConfig
from keras_dae.networks.autoencoder import build_autoencoder
from keras_dae.networks.geometry import AUTOENCODER
from keras_dae.networks.unet import UNET
from keras_dae.torch_weights import main as torch_weights
from keras_dae.torch_weights import to_state_dict
from keras_dae.train.run import train_and_evaluate


@pytest.fixture(scope="module")
def trained(digits_npz, tmp_path_factory):
    """A finished run folder with all exports; tests must not change it."""
    config = TrainConfig(dataset=str(digits_npz), epochs=3, batch_size=16, initialization="he")
    run = train_and_evaluate(config, tmp_path_factory.mktemp("export") / "run")
    export_run(run)
    return run


@pytest.fixture
def run(trained, tmp_path):
    return Path(shutil.copytree(trained, tmp_path / "run"))


@pytest.fixture(scope="module")
def onnx_file(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    export_onnx(model, path, {"dataset": "none"})
    return path


@pytest.fixture
def few_cases(monkeypatch):
    """Few parity cases, for tests that look at the reaction to wrong artefacts."""
    monkeypatch.setattr(cases, "BATCH_SIZES", (2,))
    monkeypatch.setattr(cases, "IMAGE_SIZES", ((28, 28), (5, 3)))


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class TestVerify:
    """The parity check accepts right artefacts and finds wrong ones."""

    @pytest.mark.slow
    @pytest.mark.parametrize("channels", [1, 3])
    def test_right_artefacts_pass(self, tmp_path, channels):
        model = build_autoencoder((None, None, channels), "torch", seed=1)
        export_onnx(model, tmp_path / "model.onnx")
        export_saved_model(model, tmp_path / "saved_model")
        entries = verify(model, {"onnx": tmp_path / "model.onnx", "saved_model": tmp_path / "saved_model"})
        assert set(entries) == {"onnx", "saved_model"}
        for entry in entries.values():
            assert entry["max_abs_error"] < 2e-6
            assert entry["batches"] == [1, 2, 7]
            assert entry["sizes"] == ["28×28", "20×20", "64×48", "37×50", "17×17", "5×3", "1×1"]

    def broken(self, onnx_file, tmp_path, change):
        proto = onnx.load(onnx_file)
        change(proto.graph)
        onnx.save(proto, tmp_path / "broken.onnx")
        return {"onnx": tmp_path / "broken.onnx"}

    @staticmethod
    def change_weights(name, change):
        def apply(graph):
            (tensor,) = [tensor for tensor in graph.initializer if name in tensor.name and len(tensor.dims) == 4]
            changed = np.ascontiguousarray(change(onnx.numpy_helper.to_array(tensor).copy()))
            tensor.CopyFrom(onnx.numpy_helper.from_array(changed, tensor.name))

        return apply

    @staticmethod
    def nudge(values):
        values.flat[np.abs(values).argmax()] *= 1.01
        return values

    @pytest.mark.slow
    def test_nudged_weight(self, model, onnx_file, tmp_path, few_cases):
        change = self.change_weights("decoder_conv_transpose3", self.nudge)
        with pytest.raises(ParityError, match=r"broken\.onnx: .*differs by"):
            verify(model, self.broken(onnx_file, tmp_path, change))

    @pytest.mark.slow
    @pytest.mark.parametrize("layer", ["encoder_conv1", "decoder_conv_transpose2"])
    def test_transposed_kernel(self, model, onnx_file, tmp_path, few_cases, layer):
        change = self.change_weights(layer, lambda values: values.transpose(0, 1, 3, 2))
        with pytest.raises(ParityError, match="differs by"):
            verify(model, self.broken(onnx_file, tmp_path, change))

    @pytest.mark.slow
    def test_flipped_kernel(self, model, onnx_file, tmp_path, few_cases):
        change = self.change_weights("encoder_conv3", lambda values: values[:, :, ::-1, ::-1])
        with pytest.raises(ParityError, match="differs by"):
            verify(model, self.broken(onnx_file, tmp_path, change))

    def test_shifted_by_a_pixel(self, model, onnx_file, tmp_path, few_cases):
        def shift(graph):
            (pads,) = [a for a in layer(graph, "decoder_conv_transpose3").attribute if a.name == "pads"]
            pads.ints[:] = [1, 1, 0, 0]

        with pytest.raises(ParityError, match="differs by"):
            verify(model, self.broken(onnx_file, tmp_path, shift))

    def test_nan(self, model, onnx_file, tmp_path, few_cases):
        change = self.change_weights("decoder_conv_transpose3", lambda values: values * np.float32("nan"))
        with pytest.raises(ParityError, match="differs by nan"):
            verify(model, self.broken(onnx_file, tmp_path, change))

    def test_wrong_shape(self, model, onnx_file, tmp_path, few_cases):
        def uncrop(graph):
            (crop,) = [node for node in graph.node if node.op_type == "Slice" and "crop" in node.name]
            graph.node[-1].input[0] = crop.input[0]

        with pytest.raises(ParityError, match=r"expected shape \(2, 5, 3, 1\), got \(2, 20, 20, 1\)"):
            verify(model, self.broken(onnx_file, tmp_path, uncrop))

    @pytest.mark.slow
    @pytest.mark.parametrize("kind", ["onnx", "saved_model"])
    def test_stale_file(self, model, tmp_path, few_cases, kind):
        older = keras.models.clone_model(model)
        older.set_weights([weight * 1.001 for weight in model.get_weights()])
        {"onnx": export_onnx, "saved_model": export_saved_model}[kind](older, tmp_path / f"stale.{kind}")
        with pytest.raises(ParityError, match=r"stale\..*differs by"):
            verify(model, {kind: tmp_path / f"stale.{kind}"})

    @pytest.mark.slow
    @pytest.mark.parametrize("name", ["garbage.onnx", "missing.onnx", "no_saved_model"])
    def test_artefact_that_does_not_run(self, model, tmp_path, few_cases, name):
        if name == "garbage.onnx":
            (tmp_path / name).write_bytes(b"garbage")
        kind = "onnx" if name.endswith("onnx") else "saved_model"
        with pytest.raises(ParityError, match="does not run"):
            verify(model, {kind: tmp_path / name})

    def test_an_artefact_that_hangs_is_named(self, model, onnx_file, few_cases, monkeypatch):
        monkeypatch.setattr(check, "RUN_SECONDS", 0.01)
        with pytest.raises(ParityError, match=r"model\.onnx did not finish the parity check within 0\.01 seconds"):
            verify(model, {"onnx": onnx_file})

    def test_broken_int8(self, model, onnx_file, few_cases):
        stale = build_autoencoder(initialization="torch", seed=5)
        with pytest.raises(ParityError, match="differs by"):
            verify(stale, {"int8": onnx_file})


def layer(graph, name):
    """Return the convolution of a layer."""
    (node,) = [node for node in graph.node if node.op_type.startswith("Conv") and name in node.name]
    return node


class TestOnnx:
    @pytest.mark.slow
    def test_same_bytes_for_every_hash_seed(self, model, onnx_file, tmp_path):
        model.save(tmp_path / "model.keras")
        code = (
            "from keras_dae.networks.keras_file import load_model; from export.to_onnx import export_onnx; "
            "export_onnx(load_model('model.keras'), 'model.onnx', {'dataset': 'none'})"
        )
        environment = {**os.environ, "PYTHONHASHSEED": "12345", "PYTHONPATH": str(Path(__file__).parent.parent)}
        subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
        assert (tmp_path / "model.onnx").read_bytes() == onnx_file.read_bytes()

    def test_interface(self, onnx_file):
        session = onnxruntime.InferenceSession(onnx_file)
        (noisy,), (denoised,) = session.get_inputs(), session.get_outputs()
        assert (noisy.name, denoised.name) == ("noisy", "denoised")
        assert noisy.shape == denoised.shape == ["batch", "height", "width", 1]
        assert noisy.type == denoised.type == "tensor(float)"
        assert session.get_modelmeta().custom_metadata_map == {"dataset": "none"}

    def test_layers_follow_each_other_directly(self, onnx_file):
        proto = onnx.load(onnx_file)
        (opset,) = proto.opset_import
        assert opset.version == 17
        assert not any(":0" in name for v in (*proto.graph.input, *proto.graph.output) for name in [v.name])
        producers = {output: node for node in proto.graph.node for output in node.output}
        (node,) = [node for node in proto.graph.node if node.op_type == "Sigmoid"]
        chain = []
        for _ in range(12):
            chain.append(node.op_type)
            node = producers[node.input[0]]
        assert chain == ["Sigmoid", *["Conv", "Relu"] * 5, "Conv"]

    def test_passes_the_full_check(self, onnx_file):
        onnx.checker.check_model(str(onnx_file), full_check=True)
        onnx.shape_inference.infer_shapes(onnx.load(onnx_file), check_type=True, strict_mode=True, data_prop=True)

    def test_size(self, onnx_file):
        assert onnx_file.stat().st_size < 490_000


@pytest.fixture(scope="module")
def noisy(digits):
    return digits[:16, ..., None].astype(np.float32) / 255


class TestInt8:
    """The 8-bit model: what calibrates it, what it is compared with, and what its export leaves behind."""

    def test_calibration_images_do_not_depend_on_batch_size_or_epochs(self, digits):
        images = np.resize(digits, (300, 28, 28))[..., None]
        usual = calibration_images(images, TrainConfig(dataset="digits"))
        assert len(usual) == 8 * TrainConfig().batch_size
        for options in ({"batch_size": 7}, {"batch_size": 300}, {"epochs": 1}):
            assert np.array_equal(calibration_images(images, TrainConfig(dataset="digits", **options)), usual)
        few = calibration_images(images[:20], TrainConfig(dataset="digits", epochs=1))
        assert len(few) == 8 * 20

    def test_the_first_layer_stays_float(self, onnx_file, noisy, tmp_path):
        """Whatever the nodes are called."""
        proto = onnx.load(onnx_file)
        for number, node in enumerate(proto.graph.node):
            node.name = f"node {number}"
        onnx.save(proto, tmp_path / "renamed.onnx")
        for path in (onnx_file, tmp_path / "renamed.onnx"):
            export_int8(path, tmp_path / "int8.onnx", noisy)
            graph = onnx.load(tmp_path / "int8.onnx").graph
            made_by = {output: node.op_type for node in graph.node for output in node.output}
            inputs = [made_by.get(node.input[0]) for node in graph.node if node.op_type == "Conv"]
            assert inputs.count("DequantizeLinear") == len(inputs) - 1 == 5

    def test_logging_is_left_as_it_was(self, onnx_file, noisy, tmp_path, capfd):
        root, heard = logging.getLogger(), []
        handlers, before, disabled = root.handlers[:], (root.level, root.filters[:]), logging.root.manager.disable
        try:
            root.handlers[:] = []  # onnxruntime would add one
            logging.disable(logging.INFO)
            export_int8(onnx_file, tmp_path / "int8.onnx", noisy)
            assert (root.handlers, (root.level, root.filters), logging.root.manager.disable) == (
                [],
                before,
                logging.INFO,
            )
            assert "pre-processing" not in capfd.readouterr().err
            with without_advice():
                root.handlers[:] = [Listener(heard)]
                logging.getLogger("mine").warning("a warning of another module")
                root.warning("a warning of this file")
        finally:
            root.handlers[:] = handlers
            logging.disable(disabled)
        assert heard == ["a warning of another module", "a warning of this file"]

    @pytest.mark.slow
    def test_a_wrong_float_model_below_it_is_found(self, run, monkeypatch, capsys, few_cases):
        """int8 alone: no float ONNX is exported, but the 8-bit model is made from one."""

        def wrong(model, path, metadata=None):
            other = keras.models.clone_model(model)
            other.set_weights([1.1 * weight for weight in model.get_weights()])
            export_onnx(other, path, metadata)

        monkeypatch.setattr(to_onnx, "export_onnx", wrong)
        before = content(run)
        assert main([str(run), "--formats", "int8"]) == 1
        assert "model.int8.onnx: digits 2×28×28: differs by" in capsys.readouterr().err
        assert content(run) == before

    @pytest.mark.slow
    def test_a_broken_8_bit_model_is_refused(self, run, monkeypatch, capsys, few_cases):
        def broken(float_path, path, noisy):
            export_int8(float_path, path, np.zeros_like(noisy))  # the ranges are those of black images

        monkeypatch.setattr(to_int8, "export_int8", broken)
        before = (run / "model.int8.onnx").read_bytes()
        assert main([str(run), "--formats", "int8"]) == 1
        assert "int8 loses" in capsys.readouterr().err
        assert (run / "model.int8.onnx").read_bytes() == before

    def test_the_tolerance_is_what_was_measured(self, trained):
        entry = json.loads((trained / "parity.json").read_text())["int8"]
        assert entry["max_rms_error"] <= entry["tolerance"] == entry["rms_error_to_float"] + TOLERANCE
        assert entry["tolerance"] < 0.1


class Listener(logging.Handler):
    """Collects messages."""

    def __init__(self, heard):
        super().__init__()
        self.heard = heard

    def emit(self, record):
        self.heard.append(record.getMessage())


class TestSavedModel:
    @pytest.mark.slow
    def test_serving_default_and_denoise_image(self, trained):
        signatures = tf.saved_model.load(str(trained / "saved_model" / "1")).signatures
        assert set(signatures) == {"serving_default", "denoise_image"}
        assert set(signatures["denoise_image"].structured_outputs) == {"denoised_bytes"}
        images = [np.zeros((9, 31, 1), np.uint8), np.full((64, 20, 3), 200, np.uint8)]
        files = [tf.io.encode_png(images[0]).numpy(), tf.io.encode_jpeg(images[1]).numpy()]
        denoised = signatures["denoise_image"](image_bytes=tf.constant(files))["denoised_bytes"].numpy()
        assert [tf.io.decode_png(image).shape for image in denoised] == [(9, 31, 1), (64, 20, 3)]

    def test_every_op_is_tensorflows_own_and_runs_on_a_cpu(self, trained):
        from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
        from tensorflow.python.framework import kernels, op_def_registry

        saved = SavedModel.FromString((trained / "saved_model/1/saved_model.pb").read_bytes())
        graph = saved.meta_graphs[0].graph_def
        functions = {function.signature.name for function in graph.library.function}
        nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
        ops = {node.op for node in nodes} - functions
        assert {"Conv2D", "DepthToSpace", "DecodePng", "DecodeJpeg", "EncodePng"} <= ops
        assert not {op for op in ops if op_def_registry.get(op) is None or "Py" in op}
        for op in ops:
            devices = {kernel.device_type for kernel in kernels.get_registered_kernels_for_op(op).kernel}
            assert devices & {"CPU", "DEFAULT"}, op

    def test_warmup_requests_cover_both_signatures(self, trained):
        from tensorflow_serving.apis import prediction_log_pb2

        file = trained / "saved_model/1/assets.extra/tf_serving_warmup_requests"
        logs = [prediction_log_pb2.PredictionLog.FromString(r.numpy()) for r in tf.data.TFRecordDataset(str(file))]
        names = {log.predict_log.request.model_spec.signature_name for log in logs}
        assert names == {"serving_default", "denoise_image"}


class TestRun:
    def test_everything_is_there_and_verified(self, trained):
        assert (trained / "saved_model/1/saved_model.pb").is_file()
        entries = json.loads((trained / "parity.json").read_text())
        assert set(entries) == {"saved_model", "onnx", "int8"}
        assert entries["onnx"]["max_abs_error"] <= 1e-5
        assert entries["saved_model"]["png_max_abs_error"] <= 1
        assert entries["int8"]["psnr_lost_db"] <= 0.1
        metrics = json.loads((trained / "metrics.json").read_text())
        assert metrics["int8"]["psnr_db"] == pytest.approx(metrics["test"]["psnr"], abs=0.1)
        assert (trained / "model.int8.onnx").stat().st_size <= 150_000
        about = onnxruntime.InferenceSession(trained / "model.onnx").get_modelmeta().custom_metadata_map
        assert about["noise"] == "gaussian"
        assert about["noise_factor"] == "0.5"
        assert float(about["psnr_db"]) == pytest.approx(metrics["test"]["psnr"], abs=1e-3)
        assert {"dataset", "version", "licence"} <= set(about)

    @pytest.mark.slow
    def test_new_export_takes_the_next_version(self, run):
        before = content(run / "saved_model" / "1")
        assert main([str(run), "--formats", "saved_model"]) == 0
        assert content(run / "saved_model" / "1") == before
        assert {path.name for path in (run / "saved_model").iterdir()} == {"1", "2"}

    @pytest.mark.slow
    def test_a_difference_leaves_all_files_untouched(self, run, monkeypatch, capsys, few_cases):
        def wrong(model, path, metadata=None):
            other = keras.models.clone_model(model)
            other.set_weights([weight + 0.01 for weight in model.get_weights()])
            export_onnx(other, path, metadata)

        monkeypatch.setattr(to_onnx, "export_onnx", wrong)
        before = content(run)
        assert main([str(run), "--formats", "saved_model", "onnx"]) == 1
        assert "model.onnx: noise 2×28×28: differs by" in capsys.readouterr().err
        assert content(run) == before

    @pytest.mark.slow
    def test_costly_int8_is_left_out(self, run, monkeypatch, capsys, few_cases):
        monkeypatch.setattr(int8_loss, "MAX_INT8_LOSS", -1.0)
        before = (run / "model.int8.onnx").read_bytes()
        assert main([str(run)]) == 0
        assert "note: int8 loses" in capsys.readouterr().err
        assert (run / "saved_model/2").is_dir()
        assert main([str(run), "--formats", "onnx", "int8"]) == 1
        assert "exported: onnx" in capsys.readouterr().err
        assert (run / "model.int8.onnx").read_bytes() == before

    @pytest.mark.slow
    def test_check(self, run, capsys, few_cases):
        assert main([str(run), "--check"]) == 0
        assert "model.onnx: equals Keras within" in capsys.readouterr().out
        export_onnx(build_autoencoder(initialization="torch", seed=9), run / "model.int8.onnx")
        assert main([str(run), "--check", "--formats", "int8"]) == 1
        assert "model.int8.onnx: digits" in capsys.readouterr().err
        export_onnx(build_autoencoder(seed=9), run / "model.onnx")
        assert main([str(run), "--check", "--formats", "onnx"]) == 1

    @pytest.mark.slow
    def test_int8_is_judged_on_the_images_of_the_run(self, run, monkeypatch, few_cases):
        monkeypatch.setattr(recheck, "INT8_TOLERANCE", 0.0)  # for digits, which it may never have seen
        assert main([str(run), "--formats", "int8"]) == 0
        assert main([str(run), "--check"]) == 0

    def test_keras_file(self, run, tmp_path, few_cases):
        command = [str(run / "model.keras"), "--output-dir", str(tmp_path / "out"), "--formats", "onnx"]
        assert main(command) == 0
        assert set(content(tmp_path / "out")) == {"model.onnx", "parity.json"}

    def test_another_model_beside_exports_that_stay(self, run, tmp_path, few_cases, capsys):
        """They would be listed as verified against a model that is not theirs."""
        build_autoencoder(seed=9, initialization="torch").save(tmp_path / "other.keras")
        first, second = (["--output-dir", str(tmp_path / "out"), "--formats", name] for name in ("onnx", "saved_model"))
        assert main([str(run / "model.keras"), *first]) == 0
        assert main([str(run / "model.keras"), *second]) == 0
        before = content(tmp_path / "out")
        error = ("same weights", "model.onnx", "another --output-dir")
        assert_user_error(main([str(tmp_path / "other.keras"), *second]), capsys.readouterr().err, *error)
        assert content(tmp_path / "out") == before
        assert main([str(tmp_path / "other.keras"), *first, "saved_model"]) == 0

    @pytest.mark.slow
    def test_colour_keras_file(self, tmp_path, few_cases, capsys):
        """Nothing tells which images could calibrate 8 bits."""
        build_autoencoder((None, None, 3), initialization="torch").save(tmp_path / "colour.keras")
        command = [str(tmp_path / "colour.keras"), "--output-dir", str(tmp_path / "out")]
        assert main(command) == 0
        assert "note: int8 needs the images that the model was trained on" in capsys.readouterr().err
        assert set(content(tmp_path / "out")) >= {"model.onnx", "parity.json"}
        assert not (tmp_path / "out/model.int8.onnx").exists()
        error = "int8 needs the images that the model was trained on"
        assert main([*command, "--formats", "int8"]) == 2
        assert error in capsys.readouterr().err

    @pytest.mark.slow
    def test_imported_pytorch_run(self, model, tmp_path, few_cases):
        save_file(to_state_dict(model), tmp_path / "original.safetensors")
        torch_weights(["import", str(tmp_path / "original.safetensors"), "--output-dir", str(tmp_path / "run")])
        assert main([str(tmp_path / "run"), "--formats", "saved_model", "onnx"]) == 0
        assert (tmp_path / "run/saved_model/1").is_dir()

    @pytest.mark.slow
    def test_train_exports(self, digits_npz, tmp_path, few_cases):
        config = TrainConfig(dataset=str(digits_npz), epochs=1, batch_size=16, initialization="he")

        def finish(folder, dataset):
            export_run(folder, formats=["onnx", "int8"], dataset=dataset)

        run = train_and_evaluate(config, tmp_path / "run", finish=finish)
        assert {"model.onnx", "model.int8.onnx", "parity.json"} < {path.name for path in run.iterdir()}


class TestBadInput:
    def check(self, capsys, command, *expected):
        assert_user_error(main([str(part) for part in command]), capsys.readouterr().err, *expected)

    @pytest.mark.parametrize(
        "options", [["--check", "--output-dir", "out"], ["--check", "--overwrite"], ["--overwrite"]]
    )
    def test_options_without_effect(self, run, options, capsys):
        self.check(capsys, [run, *options], "expected", options[-2] if "out" in options else options[-1])

    def test_missing(self, tmp_path, capsys):
        self.check(capsys, [tmp_path / "nothing"], "nothing", "not there")
        assert not any(tmp_path.iterdir())

    @pytest.mark.parametrize("damage", [lambda c: b"", lambda c: c[:-500], lambda c: b"not keras", lambda c: c[500:]])
    def test_damaged_keras_file(self, run, tmp_path, capsys, damage):
        file = tmp_path / "damaged.keras"
        file.write_bytes(damage((run / "model.keras").read_bytes()))
        self.check(capsys, [file, "--output-dir", tmp_path / "out"], "damaged.keras")
        assert not (tmp_path / "out").exists()

    def test_foreign_network(self, tmp_path, capsys):
        keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Conv2D(1, 3)]).save(tmp_path / "other.keras")
        self.check(capsys, [tmp_path / "other.keras", "--output-dir", tmp_path / "out"], "not this network")
        assert not (tmp_path / "out").exists()

    def test_keras_file_alone(self, run, capsys):
        self.check(capsys, [run / "model.keras"], "--output-dir")

    def test_unknown_format(self, run, capsys):
        self.check(capsys, [run, "--formats", "onnx", "tflite"], "tflite")

    @pytest.mark.parametrize("name", ["tflite", "hf"])
    def test_unknown_format_to_check(self, run, capsys, name):
        self.check(capsys, [run, "--check", "--formats", "onnx", name], name)

    def test_nothing_to_check(self, tmp_path, run, capsys):
        (tmp_path / "bare").mkdir()
        shutil.copy(run / "model.keras", tmp_path / "bare")
        self.check(capsys, [tmp_path / "bare", "--check"], "found no saved_model, no model.onnx")

    def test_a_requested_format_must_be_there(self, run, capsys):
        (run / "model.int8.onnx").unlink()
        self.check(capsys, [run, "--check", "--formats", "onnx", "int8"], "found no model.int8.onnx")

    def test_output_below_a_file(self, run, tmp_path, capsys):
        (tmp_path / "file").write_text("")
        self.check(capsys, [run, "--output-dir", tmp_path / "file" / "out"], "cannot write")

    def test_full_disk(self, run, monkeypatch, capsys):
        def full(model, path, metadata=None):
            Path(path).write_bytes(b"half")
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(to_onnx, "export_onnx", full)
        before = content(run)
        self.check(capsys, [run, "--formats", "onnx"], "No space left")
        assert content(run) == before


@pytest.mark.parametrize(("grid", "smallest"), [(AUTOENCODER.grid, 20), (UNET.grid, 4)], ids=["autoencoder", "unet"])
@pytest.mark.parametrize("size", [*range(1, 30), 97])
def test_images_are_continued_as_numpy_reflects_them(size, grid, smallest):
    size_before = tf.constant(size, tf.int64)
    rows = reflected_index(tf.range(padded_size(size_before, grid)), size_before).numpy()
    assert len(rows) == max(smallest, -(-size // 4) * 4)
    assert rows.tolist() == np.pad(np.arange(size), (0, len(rows) - size), "reflect" if size > 1 else "edge").tolist()
    assert rows.tolist() == cases.reflected_rows(size, grid)


@pytest.mark.parametrize("block", [1, 2])
def test_in_blocks_is_the_transposed_convolution(block):
    random = np.random.default_rng(block)
    kernel = random.random((3, 3, 2, 3), np.float32)
    pixels = random.random((1, 8, 12, 3), np.float32)
    expected = tf.nn.conv2d_transpose(pixels, kernel, (1, 17, 25, 2), 2, "VALID")[:, 1:, 1:]
    taken = tf.nn.space_to_depth(pixels, block) if block > 1 else pixels
    blocks = tf.nn.conv2d(taken, in_blocks(kernel, block), 1, [[0, 0], [0, 1], [0, 1], [0, 0]])
    np.testing.assert_allclose(tf.nn.depth_to_space(blocks, 2 * block), expected, atol=1e-5)


def test_public_names_load():
    assert all(getattr(export, name) is not None for name in export.__all__)
