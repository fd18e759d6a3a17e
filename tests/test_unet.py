"""The network `unet`: what it computes, its training, and that nothing that works for the autoencoder is missing."""

import importlib.util
import json

import numpy as np
import onnx
import pytest
import tensorflow as tf
from conftest import smooth_picture
from PIL import Image

from export.graph.layers import as_convolution
from export.parity.cases import reference
from export.run import export_run
from export.to_int8 import QUANTIZATIONS, Quantization, export_int8
from export.to_onnx import export_onnx
from keras_dae.config import TrainConfig
from keras_dae.data.load import load_dataset
from keras_dae.denoise.denoiser import load_denoiser
from keras_dae.errors import UserError
from keras_dae.networks import NETWORKS, build_network, network_name
from keras_dae.networks.keras_file import load_model, save_model
from keras_dae.networks.unet import UNET, build_unet
from keras_dae.runs.folder import default_name, load_config
from keras_dae.train.run import train_and_evaluate

FORMATS = {"saved_model", "onnx", *(["litert"] if importlib.util.find_spec("ai_edge_litert") else [])}


def run_litert(run, noisy):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(run / "model.tflite"))
    interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], noisy.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], noisy)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def run_saved_model(run, noisy):
    signature = tf.saved_model.load(str(run / "saved_model/1")).signatures["serving_default"]
    return signature(noisy=tf.constant(noisy))["denoised"].numpy()


RUN_EXPORT = {
    "litert": run_litert,
    "onnx": lambda run, noisy: load_denoiser(run).session.run(None, {"noisy": noisy})[0],
    "saved_model": run_saved_model,
}


def network(channels=1):
    """An untrained U-Net whose branches count as much as the skips, so that all that a pixel sees matters."""
    model = build_unet((None, None, channels), initialization="he", seed=channels)
    for layer in model.layers:
        if layer.name.endswith("_conv2"):
            layer.set_weights([10 * weight for weight in layer.get_weights()])
    return model


def noise(*shape, seed=0):
    return np.random.default_rng(seed).random(shape, np.float32)


class TestNetwork:
    def test_is_bias_free_and_scales_with_its_input(self):
        model = network()
        assert all(len(layer.get_weights()) in (0, 1) for layer in model.layers)
        images = noise(1, 32, 32, 1) - 0.3
        expected = 0.01 * np.asarray(model(images))
        np.testing.assert_allclose(np.asarray(model(0.01 * images)), expected, atol=1e-8)

    def test_has_built_in_layers_alone(self):
        kinds = {f"{type(layer).__module__.split('.')[0]}.{type(layer).__name__}" for layer in network().layers}
        assert kinds == {f"keras.{name}" for name in ("InputLayer", "Conv2D", "Conv2DTranspose", "ReLU", "Add")}

    def test_seed_decides_the_weights(self):
        first, same, other = (build_unet(seed=seed) for seed in (1, 1, 2))
        for one, two, three in zip(first.get_weights(), same.get_weights(), other.get_weights()):
            assert np.array_equal(one, two)
            assert not np.array_equal(one, three)

    @pytest.mark.parametrize("initialization", ["he", "torch"])
    def test_starts_near_its_input(self, initialization):
        images = noise(1, 64, 64, 1)
        change = np.asarray(build_unet(initialization=initialization, seed=0)(images)) - images
        assert 0 < np.sqrt(np.mean(change**2)) < 0.2

    @pytest.mark.parametrize("shape", [(30, 32, 1), (32, 33, 1), (32, 32, 2)])
    def test_other_shapes_are_refused(self, shape):
        with pytest.raises(UserError, match=f"multiples of {UNET.multiple}"):
            build_unet(shape)

    def test_unknown_network_is_refused(self):
        with pytest.raises(UserError, match="expected network to be one of autoencoder, unet, got 'dncnn'"):
            build_network("dncnn")

    @pytest.mark.parametrize("name", NETWORKS)
    def test_network_is_known_by_its_layers(self, name, tmp_path):
        model = build_network(name, (None, None, 3), seed=0)
        save_model(model, tmp_path / "model.keras")
        assert network_name(model) == network_name(load_model(tmp_path / "model.keras")) == name


class TestKerasFile:
    @pytest.mark.parametrize("channels", [1, 3])
    def test_same_pixels(self, channels, tmp_path):
        model, images = network(channels), noise(2, 40, 28, channels)
        save_model(model, tmp_path / "model.keras")
        np.testing.assert_array_equal(
            np.asarray(load_model(tmp_path / "model.keras")(images)), np.asarray(model(images))
        )

    def test_no_private_paths(self, tmp_path):
        import zipfile

        save_model(network(), tmp_path / "model.keras")
        with zipfile.ZipFile(tmp_path / "model.keras") as archive:
            assert b"keras.src" not in archive.read("config.json")


class TestGraph:
    @pytest.mark.parametrize(("size", "stride"), [(2, 2), (3, 1), (4, 2), (6, 2), (3, 3), (9, 3)])
    def test_transposed_convolution_in_blocks(self, size, stride):
        """Against TensorFlow's own transposed convolution."""
        import tensorflow as tf

        kernel, images = noise(size, size, 5, 4), noise(2, 7, 6, 4, seed=1)
        expected = tf.nn.conv2d_transpose(images, kernel, (2, 7 * stride, 6 * stride, 5), stride, "SAME")
        made, padding = as_convolution(kernel, stride)
        got = tf.nn.conv2d(images, made, 1, padding)
        got = tf.nn.depth_to_space(got, stride) if stride > 1 else got
        np.testing.assert_allclose(got, expected, atol=1e-5)

    def test_other_layers_are_refused(self):
        import keras

        from export.graph import layers

        noisy = keras.Input((None, None, 1))
        model = keras.Model(noisy, keras.layers.MaxPooling2D(name="pool")(noisy))
        with pytest.raises(UserError, match="expected layers that can be exported, got pool, a MaxPooling2D"):
            layers.network(model)

    def test_onnx_has_no_transposed_convolutions(self, onnx_files):
        kinds = {node.op_type for node in onnx.load(onnx_files[1]).graph.node}
        assert {"Conv", "DepthToSpace"} <= kinds
        assert not kinds & {"ConvTranspose", "Resize", "If", "Loop"}


@pytest.fixture(scope="module")
def onnx_files(tmp_path_factory):
    """channels -> ONNX file of `network(channels)`."""
    folder = tmp_path_factory.mktemp("unet")
    files = {}
    for channels in (1, 3):
        files[channels] = folder / f"{channels}.onnx"
        export_onnx(network(channels), files[channels])
    return files


class TestDenoising:
    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("size", [(1, 1), (2, 5), (17, 64), (33, 31)])
    def test_any_size(self, onnx_files, channels, size):
        image = noise(*size, channels)
        expected = reference(network(channels), image[None])[0]
        np.testing.assert_allclose(load_denoiser(onnx_files[channels])(image), expected, atol=1e-5)

    @pytest.mark.parametrize("channels", [1, 3])
    def test_tiles_have_no_seams(self, onnx_files, channels, monkeypatch):
        """And there are some with a narrower halo."""
        import dataclasses

        from keras_dae.denoise import denoiser as module

        denoiser, image = load_denoiser(onnx_files[channels]), noise(203, 230, channels)
        whole = denoiser.session.run(["denoised"], {"noisy": image[None]})[0][0]
        monkeypatch.setattr(module, "TILE", 4 * UNET.multiple)
        assert np.abs(in_tiles(denoiser, image) - whole).max() < 2e-6
        denoiser.grid = dataclasses.replace(denoiser.grid, receptive_radius=UNET.halo - UNET.multiple)
        assert np.abs(in_tiles(denoiser, image) - whole).max() > 1e-4

    def test_file_knows_its_grid(self, onnx_files):
        assert load_denoiser(onnx_files[1]).grid == UNET.grid

    def test_damaged_grid_is_refused(self, onnx_files, tmp_path):
        proto = onnx.load(onnx_files[1])
        onnx.helper.set_model_props(proto, {"multiple": "4", "min_padded_size": "4", "receptive_radius": "many"})
        onnx.save(proto, tmp_path / "damaged.onnx")
        with pytest.raises(UserError, match=r"cannot load .*many"):
            load_denoiser(tmp_path / "damaged.onnx")


def in_tiles(denoiser, image):
    denoised = np.empty_like(image)
    denoiser._denoise_tiles(image, denoised)
    return denoised


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A short training on colour photographs, with recipe `photo`, and all of its exports."""
    folder = tmp_path_factory.mktemp("pictures")
    for index in range(12):
        Image.fromarray(smooth_picture(80, 72, index)).save(folder / f"{index}.png")
    config = TrainConfig.from_recipe("photo", dataset=str(folder), channels=3, epochs=2, patch_size=32, batch_size=8)
    run = train_and_evaluate(config, folder.parent / "unet-run")
    export_run(run, formats=FORMATS)
    return run


@pytest.mark.slow
class TestTraining:
    def test_run_folder_has_another_name(self, digits_npz):
        dataset = load_dataset(TrainConfig(dataset=str(digits_npz)))
        names = [default_name(TrainConfig(network=name), dataset) for name in NETWORKS]
        assert names == ["tiny-gaussian-0.5", "tiny-unet-gaussian-0.5"]

    @pytest.mark.parametrize("recipe", ["seed", "quick", "best"])
    def test_recipes_of_digits(self, recipe, digits_npz, tmp_path):
        config = TrainConfig.from_recipe(recipe, network="unet", dataset=str(digits_npz), epochs=1, batch_size=8)
        run = train_and_evaluate(config, tmp_path / "run")
        assert network_name(load_model(run / "model.keras")) == "unet"
        assert load_config(run / "config.json").network == "unet"
        assert "An image-denoising U-Net with" in (run / "README.md").read_text()

    @pytest.mark.parametrize("name", sorted(FORMATS))
    def test_every_export_equals_keras(self, trained, name):
        """Once more than in the parity check, which verified them before they were kept."""
        assert set(json.loads((trained / "parity.json").read_text())) == FORMATS
        noisy = 1.4 * noise(2, 36, 48, 3) - 0.2
        expected = np.clip(load_model(trained / "model.keras")(noisy), 0, 1)
        np.testing.assert_allclose(RUN_EXPORT[name](trained, noisy), expected, atol=1e-5)

    def test_int8_loses_little(self, trained, tmp_path):
        export_run(trained, tmp_path, formats=["int8"])
        clean = np.stack([smooth_picture(80, 72, seed) / np.float32(255) for seed in range(20, 24)])
        noisy = clean + np.random.default_rng(0).normal(0, 0.1, clean.shape).astype(np.float32)
        psnr = [
            -10 * np.log10(np.mean((denoiser.denoise_batch(noisy).clip(0, 1) - clean) ** 2))
            for denoiser in (load_denoiser(trained), load_denoiser(tmp_path / "model.int8.onnx"))
        ]
        assert psnr[0] > 19
        assert psnr[1] > psnr[0] - 0.1

    def test_int8_keeps_the_layers_at_half_the_resolution_in_floats(self, trained, tmp_path, capsys):
        export_int8(trained / "model.onnx", tmp_path / "int8.onnx", noise(64, 64, 3)[None])
        graph = onnx.load(tmp_path / "int8.onnx").graph
        made_by = {output: node.op_type for node in graph.node for output in node.output}
        floats = [
            node.name.split("/")[0]
            for node in graph.node
            if node.op_type == "Conv" and made_by.get(node.input[0]) != "DequantizeLinear"
        ]
        outer = ["head", "encoder_block1_conv1", "encoder_block1_conv2", "decoder_block1_conv1", "decoder_block1_conv2"]
        assert floats == [*outer, "tail"]
        assert capsys.readouterr().out == ""

    def test_int8_ranges_leave_out_extremes(self, trained, tmp_path, monkeypatch):
        """With any number of images."""
        images = np.stack([noise(64, 64, 3, seed=seed) for seed in range(40)])

        def scales():
            export_int8(trained / "model.onnx", tmp_path / "int8.onnx", images)
            graph = onnx.load(tmp_path / "int8.onnx").graph
            values = {value.name: onnx.numpy_helper.to_array(value) for value in graph.initializer}
            return np.array([values[node.input[1]] for node in graph.node if node.op_type == "QuantizeLinear"])

        by_percent = scales()
        monkeypatch.setitem(QUANTIZATIONS, "unet", Quantization(outer_floats=3))
        of_all_values = scales()
        assert len(by_percent) > 5
        assert (by_percent < of_all_values).all()
        assert 0.3 < np.mean(by_percent / of_all_values) < 0.95

    def test_noise_beyond_the_range_is_taken(self, trained):
        image = noise(40, 40, 3) * 1.4 - 0.2
        denoised = load_denoiser(trained)(image)
        assert denoised.min() >= 0
        assert denoised.max() <= 1

    def test_hub_card(self, trained, tmp_path):
        from export.to_hub import export_hub

        export_hub(trained, tmp_path / "hub")
        text = (tmp_path / "hub" / "README.md").read_text()
        assert "- unet\n" in text
        assert f"multiples of {UNET.multiple}, at least {UNET.min_padded_size}" in " ".join(text.split())

    def test_torch_weights_come_back(self, trained, tmp_path):
        from keras_dae.torch_weights import export_weights, import_weights

        export_weights(trained, tmp_path / "weights.safetensors")
        import_weights(tmp_path / "weights.safetensors", tmp_path / "imported")
        before, after = (load_model(folder / "model.keras") for folder in (trained, tmp_path / "imported"))
        for one, two in zip(before.get_weights(), after.get_weights()):
            assert np.array_equal(one, two)

    def test_pytorch_gives_the_same_pixels(self, trained, tmp_path):
        torch = pytest.importorskip("torch")
        from benchmarks.torch_unet import UNet
        from keras_dae.torch_weights import to_state_dict

        model = load_model(trained / "model.keras")
        module = UNet(channels=3)
        module.load_state_dict({key: torch.from_numpy(value) for key, value in to_state_dict(model).items()})
        images = noise(2, 44, 36, 3)
        with torch.inference_mode():
            got = module(torch.from_numpy(images).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).numpy()
        np.testing.assert_allclose(got, np.asarray(model(images)), atol=1e-5)
