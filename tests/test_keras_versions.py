"""model.keras in other versions of Keras and on other backends.

KERAS_DAE_KERAS_FOLDERS names a folder with a folder for each version, made by
`uv pip install --no-deps --target FOLDER/3.3.3 keras==3.3.3`. They run on this environment's TensorFlow, PyTorch, JAX.
"""

import importlib.util
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from keras_dae.errors import UserError
from keras_dae.networks import NETWORKS, build_network
from keras_dae.networks.autoencoder import build_autoencoder
from keras_dae.networks.keras_file import load_model, save_model
from keras_dae.networks.stored_form import to_stored_form
from keras_dae.networks.unet import UNET
from keras_dae.torch_weights import to_state_dict

SIZES = [(28, 28), (17, 64), (45, 30), (52, 40)]
TOLERANCE = 1e-5  # the backends add in another order
BACKENDS = ("tensorflow", "torch", "jax")
OLD_FILES = sorted(Path(__file__).parent.glob("data/run-format-1/model.keras"))
# Without this package. The second time under settings that a user may have, which must not matter.
SCRIPT = """
import keras, numpy, sys
images = numpy.load("images.npz")
for name in sys.argv[1:]:
    model = keras.models.load_model(name)
    numpy.savez(f"{name}.predicted.npz", **{size: model.predict(images[size], verbose=0) for size in images})
    if keras.backend.backend() == "tensorflow":
        keras.config.set_image_data_format("channels_first")
        keras.config.set_dtype_policy("mixed_float16")
        model = keras.models.load_model(name)
        numpy.savez(f"{name}.called.npz", **{size: numpy.asarray(model(images[size])) for size in images})
        keras.config.set_image_data_format("channels_last")
        keras.config.set_dtype_policy("float32")
assert "keras_dae" not in sys.modules
print(keras.__version__, keras.backend.backend())
"""


def network(channels=1, name="autoencoder"):
    """A network in the form that is trained, whose outputs vary."""
    model = build_network(name, (None, None, channels), initialization="torch", seed=channels)
    model.set_weights([3 * weight for weight in model.get_weights()])
    return model


def images(channels=1, name="autoencoder"):
    random, multiple = np.random.default_rng(channels), 1 if name == "autoencoder" else UNET.multiple
    sizes = [(height // multiple * multiple, width // multiple * multiple) for height, width in SIZES]
    return {f"{height}x{width}": random.random((3, height, width, channels), np.float32) for height, width in sizes}


def keras_folders():
    """The folders of other versions of Keras, and None for the one that is installed."""
    folder = os.environ.get("KERAS_DAE_KERAS_FOLDERS")
    return [None, *(sorted(Path(folder).resolve().iterdir()) if folder else [])]


def run_keras(folder, backend, where, *names):
    """Load files with a version of Keras in a new process. Returns its version and backend."""
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    environment = os.environ | {"KERAS_BACKEND": backend, "KERAS_HOME": str(where / "home"), "PYTHONSAFEPATH": "1"}
    environment["PYTHONPATH"] = str(folder or "")
    command = [sys.executable, "-c", SCRIPT, *names]
    done = subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[-2:]


@pytest.mark.slow
@pytest.mark.parametrize("folder", keras_folders(), ids=lambda folder: folder.name if folder else "installed")
@pytest.mark.parametrize("backend", BACKENDS)
def test_every_keras_computes_the_same(tmp_path, folder, backend):
    oldest = folder is not None and folder.name.startswith("3.3.")  # writes functional models in another form
    for name, channels in [("autoencoder", 1), ("autoencoder", 3), *([] if oldest else [("unet", 3)])]:
        where = tmp_path / f"{name}-{channels}"
        where.mkdir()
        model = network(channels, name)
        save_model(model, where / "model.keras")
        np.savez(where / "images.npz", **images(channels, name))
        version, on = run_keras(folder, backend, where, "model.keras")
        assert on == backend and version == (folder.name if folder else keras.__version__)
        for file in sorted(where.glob("model.keras.*.npz")):
            with np.load(file) as found:
                for size, noisy in images(channels, name).items():
                    np.testing.assert_allclose(found[size], np.asarray(model(noisy)), rtol=0, atol=TOLERANCE)
                    assert found[size].dtype == np.float32
        assert len(list(where.glob("model.keras.*.npz"))) == (2 if backend == "tensorflow" else 1)


@pytest.mark.skipif("KERAS_DAE_KERAS_FOLDERS" not in os.environ, reason="KERAS_DAE_KERAS_FOLDERS is not set")
def test_which_versions_were_tested():
    minors = {folder.name.rpartition(".")[0] for folder in keras_folders()[1:]}
    assert {"3.3", "3.8", "3.12"} <= minors


def test_file_names_public_classes_only(tmp_path):
    save_model(network(), tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    assert set(content) == {"config.json", "metadata.json", "model.weights.h5"}
    assert b"keras.src" not in content["config.json"] + content["metadata.json"]
    config = json.loads(content["config.json"])
    assert (config["module"], config["class_name"]) == ("keras", "Sequential")
    layers = config["config"]["layers"]
    assert {layer["module"] for layer in layers} == {"keras.layers"}
    for layer in layers:
        assert isinstance(getattr(keras.layers, layer["class_name"]), type)
        assert layer["config"]["dtype"] == "float32"
        assert layer["config"].get("data_format", "channels_last") == "channels_last"
    with h5py.File(io.BytesIO(content["model.weights.h5"])) as weights:
        assert weights["layers/conv2d/vars/0"].shape == (3, 3, 1, 16)


@pytest.mark.parametrize("channels", [1, 3])
def test_both_forms_compute_the_same(tmp_path, channels):
    trained = network(channels)
    save_model(trained, tmp_path / "model.keras")
    stored = load_model(tmp_path / "model.keras")
    assert stored.input_shape == trained.input_shape == (None, None, None, channels)
    for noisy in images(channels).values():
        np.testing.assert_allclose(stored(noisy), trained(noisy), rtol=0, atol=TOLERANCE)
    for key, value in to_state_dict(trained).items():
        assert np.array_equal(to_state_dict(stored)[key], value)
    save_model(stored, tmp_path / "again.keras")
    for first, second in zip(load_model(tmp_path / "again.keras").get_weights(), stored.get_weights(), strict=True):
        assert np.array_equal(first, second)


def test_fixed_sizes_are_kept(tmp_path):
    save_model(build_autoencoder((28, 32, 3)), tmp_path / "model.keras")
    assert load_model(tmp_path / "model.keras").input_shape == (None, 28, 32, 3)


@pytest.mark.parametrize("kind", NETWORKS)
def test_what_the_user_trains_further_is_not_mistaken(tmp_path, kind):
    """Keras's own `save` of either form, and weights from it: the direction of the kernels is seen from the layers."""
    expected = to_state_dict(network(name=kind))
    for name, model in (("trained.keras", network(name=kind)), ("stored.keras", to_stored_form(network(name=kind)))):
        model.save(tmp_path / name)
        for loaded in (load_model(tmp_path / name), keras.models.load_model(tmp_path / name)):
            found = to_state_dict(loaded)
            assert all(np.array_equal(found[key], value) for key, value in expected.items())


@pytest.mark.parametrize("path", OLD_FILES, ids=lambda path: path.parent.name)
def test_files_of_before_give_the_same_bits(path):
    with zipfile.ZipFile(path) as archive:
        assert b"keras.src.ops.numpy" in archive.read("config.json")
    loaded, by_keras = load_model(path), keras.models.load_model(path, compile=False)
    if tuple(map(int, keras.__version__.split(".")[:2])) < (3, 14):
        pytest.skip(f"Keras {keras.__version__} cannot run its flip of two axes")
    for noisy in images().values():
        assert np.array_equal(loaded(noisy), by_keras(noisy))
        assert np.array_equal(loaded.predict(noisy, verbose=0), by_keras.predict(noisy, verbose=0))


@pytest.mark.parametrize("name", NETWORKS)
def test_files_that_keras_writes(tmp_path, name):
    """`model.save` writes the form that is trained, with its flips of one axis each."""
    model = network(name=name)
    model.save(tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    for noisy in images(name=name).values():
        assert np.array_equal(loaded.predict(noisy, verbose=0), model.predict(noisy, verbose=0))


@pytest.mark.slow
@pytest.mark.parametrize("path", OLD_FILES, ids=lambda path: path.parent.name)
def test_exports_have_the_same_bytes(tmp_path, path):
    from export.to_onnx import export_onnx

    save_model(load_model(path), tmp_path / "new.keras")
    export_onnx(load_model(path), tmp_path / "old.onnx", {"dataset": "none"})
    export_onnx(load_model(tmp_path / "new.keras"), tmp_path / "new.onnx", {"dataset": "none"})
    assert (tmp_path / "old.onnx").read_bytes() == (tmp_path / "new.onnx").read_bytes()


def test_another_network_is_refused(tmp_path):
    half = keras.Sequential(build_autoencoder().layers[1:4])
    renamed = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Conv2D(16, 3, name="encoder_conv1")])
    for model in (half, renamed):
        with pytest.raises(UserError, match="not this network"):
            to_state_dict(model)
        with pytest.raises(UserError, match="not this network"):
            save_model(model, tmp_path / "model.keras")
    assert not (tmp_path / "model.keras").exists()
