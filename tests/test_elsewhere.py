"""The exports in other programs: each example in export/examples runs, and agrees with Keras."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from export.to_onnx import export_onnx
from export.to_saved_model import export_saved_model
from keras_dae.networks import NETWORKS, build_network

EXAMPLES = Path(__file__).parent.parent / "export" / "examples"
SIZE = (30, 45)  # height and width; the network must pad both


@pytest.fixture(scope="module", params=NETWORKS)
def folder(request, tmp_path_factory):
    """A folder with the exports of a network, a noisy image, and the image as Keras denoises it."""
    folder = tmp_path_factory.mktemp("elsewhere")
    model = build_network(request.param, initialization="torch", seed=0)
    model.set_weights([3 * weight for weight in model.get_weights()])
    export_onnx(model, folder / "model.onnx")
    export_saved_model(model, folder / "saved_model")
    pixels = np.random.default_rng(0).integers(0, 256, SIZE, np.uint8)
    Image.fromarray(pixels).save(folder / "noisy.png")
    noisy = pixels[None, :, :, None] / np.float32(255)
    np.save(folder / "noisy.npy", noisy)
    noisy.tofile(folder / "noisy.f32")
    padded = np.pad(noisy, ((0, 0), (0, 2), (0, 3), (0, 0)), "reflect")
    np.save(folder / "expected.npy", np.asarray(model(padded))[0, : SIZE[0], : SIZE[1], 0].clip(0, 1))
    return folder


def run(*command, **kwargs):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **kwargs)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def assert_equal_png(folder, name):
    denoised = np.asarray(Image.open(folder / name).convert("L"))
    assert np.abs(denoised - 255 * np.load(folder / "expected.npy")).max() <= 0.51


def assert_equal_floats(folder, denoised):
    np.testing.assert_allclose(denoised.reshape(SIZE), np.load(folder / "expected.npy"), atol=1e-5)


def test_onnxruntime_in_python_without_tensorflow(folder):
    """With the Python that KERAS_DAE_ONNX_PYTHON names. It has numpy, onnxruntime and Pillow, but no TensorFlow."""
    python = os.environ.get("KERAS_DAE_ONNX_PYTHON")
    if not python:
        pytest.skip("KERAS_DAE_ONNX_PYTHON names no Python with onnxruntime and without TensorFlow")
    run(python, "-c", "import importlib.util as u; assert not u.find_spec('tensorflow') and not u.find_spec('keras')")
    run(python, EXAMPLES / "denoise_onnx.py", folder / "model.onnx", folder / "noisy.png", folder / "python.png")
    assert_equal_png(folder, "python.png")


def test_onnxruntime_in_node(folder):
    """With the npm packages in the folder that KERAS_DAE_NODE_MODULES names."""
    modules = os.environ.get("KERAS_DAE_NODE_MODULES")
    if not modules or not shutil.which("node"):
        pytest.skip("KERAS_DAE_NODE_MODULES names no folder with onnxruntime-node and pngjs, or Node is not installed")
    command = ["node", EXAMPLES / "denoise_onnx.cjs", folder / "model.onnx", folder / "noisy.png", folder / "node.png"]
    run(*command, env={**os.environ, "NODE_PATH": modules})
    assert_equal_png(folder, "node.png")


@pytest.mark.slow
def test_saved_model_cli(folder):
    command = Path(sys.executable).with_name("saved_model_cli")  # it is installed with TensorFlow
    shown = run(command, "show", "--dir", folder / "saved_model", "--all")
    for part in ("serving_default", "denoise_image", "inputs['noisy']", "outputs['denoised_bytes']", "'serve'"):
        assert part in shown
    options = ["--dir", folder / "saved_model", "--tag_set", "serve", "--signature_def", "serving_default"]
    run(command, "run", *options, "--inputs", f"noisy={folder / 'noisy.npy'}", "--outdir", folder / "cli")
    assert_equal_floats(folder, np.load(folder / "cli" / "denoised.npy"))


@pytest.fixture(scope="session")
def cpp_loader(tmp_path_factory):
    """The compiled example of TensorFlow's C++ loader, with the libraries in the Python package."""
    if not shutil.which("g++"):
        pytest.skip("g++ is not installed")
    import tensorflow as tf

    libraries = tf.sysconfig.get_lib()
    links = ["-Wl,--no-as-needed", "-l:libtensorflow_cc.so.2", "-l:libtensorflow_framework.so.2"]
    places = [f"-L{libraries}", f"-Wl,-rpath,{libraries}"]
    source, program = EXAMPLES / "load_saved_model.cc", tmp_path_factory.mktemp("cpp") / "load_saved_model"
    run("g++", "-w", *tf.sysconfig.get_compile_flags(), source, "-o", program, *places, *links)
    return program


@pytest.mark.slow
def test_loader_by_tag_in_cpp(folder, cpp_loader):
    """TensorFlow's C++ loader, which TF Serving uses."""
    images = [folder / "noisy.f32", folder / "cpp.f32", folder / "noisy.png", folder / "cpp.png"]
    run(cpp_loader, folder / "saved_model", *SIZE, *images)
    assert_equal_floats(folder, np.fromfile(folder / "cpp.f32", np.float32))
    assert_equal_png(folder, "cpp.png")


def test_onnxruntime_in_cpp(folder):
    """onnxruntime's C++ API, with the headers in KERAS_DAE_ONNX_INCLUDE and the library in the Python package."""
    include = os.environ.get("KERAS_DAE_ONNX_INCLUDE")
    if not include or not shutil.which("g++"):
        pytest.skip("KERAS_DAE_ONNX_INCLUDE names no folder with onnxruntime_cxx_api.h, or g++ is not installed")
    import onnxruntime

    (library,) = (Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so*")
    link = folder / "libonnxruntime.so.1"
    link.symlink_to(library)
    source, program = EXAMPLES / "denoise_onnx.cc", folder / "denoise_onnx"
    run("g++", "-std=c++17", f"-I{include}", source, "-o", program, link, f"-Wl,-rpath,{folder}")
    run(program, folder / "model.onnx", *SIZE, folder / "noisy.f32", folder / "onnx_cpp.f32")
    assert_equal_floats(folder, np.fromfile(folder / "onnx_cpp.f32", np.float32))


@pytest.mark.parametrize("size", [(28, 28), SIZE])
def test_openvino(folder, size, monkeypatch):
    """model.onnx with the code in docs/exports.md and variable sizes, with and without padding."""
    pytest.importorskip("openvino", reason="openvino is not installed")
    page = (EXAMPLES.parent.parent / "docs" / "exports.md").read_text(encoding="utf-8")
    code = page.split("## OpenVINO")[1].split("```python\n")[1].split("```")[0]
    names = {"noisy": np.load(folder / "noisy.npy")[:, : size[0], : size[1]]}
    monkeypatch.chdir(folder)
    exec(code, names)
    (expected,) = onnxruntime.InferenceSession("model.onnx").run(["denoised"], {"noisy": names["noisy"]})
    np.testing.assert_allclose(names["denoised"], expected, atol=1e-5)


def test_python_example_with_this_python(folder):
    run(sys.executable, EXAMPLES / "denoise_onnx.py", folder / "model.onnx", folder / "noisy.png", folder / "this.png")
    assert_equal_png(folder, "this.png")
