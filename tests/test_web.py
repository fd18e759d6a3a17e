"""The files of the web page, and how they are served. test_web_browser.py opens the page in a browser."""

import gzip
import http.client
import json
import os
import re
import shutil
import socket
from pathlib import Path

import pytest
from browser import served
from conftest import assert_user_error
from PIL import Image

from export.__main__ import main
from export.to_onnx import export_onnx
from export.web import runtime
from export.web.build import STATIC_FILES, build_site
from export.web.runtime import RUNTIME_FILES, WEBGPU_FILES
from export.web.serve import make_server
from keras_dae.errors import UserError
from keras_dae.networks.unet import UNET, build_unet

ROOT = Path(__file__).parent.parent
MODELS = [(name, ROOT / "saved_models" / name) for name in ("mnist", "mnist-blind")]
MAX_PAGE_BYTES = 1_100_000  # without onnxruntime-web


@pytest.fixture(scope="module")
def no_runtime(tmp_path_factory):
    """A node_modules folder in which the files of onnxruntime-web are empty."""
    modules = tmp_path_factory.mktemp("node_modules")
    (modules / "onnxruntime-web" / "dist").mkdir(parents=True)
    for name in RUNTIME_FILES | WEBGPU_FILES:
        (modules / "onnxruntime-web" / "dist" / name).touch()
    return modules


@pytest.fixture(scope="module")
def hollow(no_runtime, tmp_path_factory):
    """A complete site, except that the files of onnxruntime-web are empty."""
    return build_site(tmp_path_factory.mktemp("hollow") / "site", MODELS, no_runtime)


def listed(site):
    """Return the models that a site lists."""
    return json.loads((site / "models.js").read_text().removeprefix("export default ").rstrip(";\n"))


@pytest.mark.slow
def test_site_is_complete(hollow):
    models = listed(hollow)
    assert [model["id"] for model in models] == ["mnist-float", "mnist-int8", "mnist-blind-float"]
    for model, run_folder in zip(models, (MODELS[0], MODELS[0], MODELS[1])):
        exported = run_folder[1] / ("model.onnx" if model["format"] == "float" else "model.int8.onnx")
        assert gzip.decompress((hollow / model["url"]).read_bytes()) == exported.read_bytes()
    with Image.open(hollow / "digits.png") as sprite:
        assert (sprite.size, sprite.mode) == ((280, 280), "L")
    assert "Microsoft" in (hollow / "ort" / "LICENSE.txt").read_text()
    page = (hollow / "index.html").read_text()
    links = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert links
    assert all((hollow / link).is_file() for link in links)  # relative links to existing files
    assert not re.search(r"\son\w+=", page)
    assert all(model["tab"] == "digits" for model in models)
    assert not (hollow / "photograph.jpg").exists()
    assert not any((hollow / "ort" / name).exists() for name in WEBGPU_FILES.values())


@pytest.mark.slow
def test_site_with_photographs_is_complete(no_runtime, tmp_path):
    """Only the model for digits has an 8-bit model on the page, and it is not the first."""
    for name, size in {"patches": "patches", "small": "32×32"}.items():
        (tmp_path / name).mkdir()
        metadata = {"dataset": "photos", "image_size": size}
        export_onnx(build_unet((None, None, 3), seed=0), tmp_path / name / "model.onnx", metadata)
        shutil.copyfile(MODELS[0][1] / "model.int8.onnx", tmp_path / name / "model.int8.onnx")
    runs = [("photo", tmp_path / "patches"), ("small", tmp_path / "small"), *MODELS]
    site = build_site(tmp_path / "site", runs, no_runtime)
    models = {model["id"]: model for model in listed(site)}
    assert list(models) == ["photo-float", "small-float", "mnist-float", "mnist-int8", "mnist-blind-float"]
    assert [model["tab"] for model in models.values()] == [*["photograph"] * 2, *["digits"] * 3]
    assert [model["channels"] for model in models.values()] == [3, 3, 1, 1, 1]
    grid = {"multiple": UNET.multiple, "min_padded_size": UNET.min_padded_size, "halo": UNET.halo}
    assert models["photo-float"]["grid"] == grid
    assert models["photo-float"]["trained_on"] == "the model was trained on colour images (photos)"
    assert models["mnist-float"]["grid"] == {"multiple": 4, "min_padded_size": 20, "halo": 24}
    assert all((site / "ort" / name).exists() for name in WEBGPU_FILES.values())
    assert (site / "photograph.jpg").is_file()


def test_example_photograph_is_small():
    example = STATIC_FILES / "photograph.jpg"
    assert example.read_bytes() == (ROOT / "docs" / "examples" / "noisy_photograph.jpg").read_bytes()
    assert example.stat().st_size <= 200_000
    with Image.open(example) as image:
        assert (image.size, image.mode) == ((720, 480), "RGB")


def test_page_is_small(hollow):
    files = [path for path in hollow.rglob("*") if path.is_file() and path.parent.name != "ort"]
    assert len(files) > 10
    assert sum(path.stat().st_size for path in files) <= MAX_PAGE_BYTES


@pytest.mark.slow
def test_shipped_models_are_the_default_and_the_build_is_reproducible(hollow, no_runtime, tmp_path):
    again = build_site(tmp_path / "site", node_modules=no_runtime)
    assert again.stat().st_mode == hollow.stat().st_mode
    files = {path.relative_to(hollow) for path in hollow.rglob("*") if path.is_file()}
    assert files == {path.relative_to(again) for path in again.rglob("*") if path.is_file()}
    assert all((hollow / name).read_bytes() == (again / name).read_bytes() for name in files)


def test_never_overwrites(hollow, no_runtime, tmp_path):
    target = tmp_path / "site"
    shutil.copytree(hollow, target)
    (target / "mine.txt").touch()
    with pytest.raises(UserError, match="--overwrite"):
        build_site(target, MODELS, no_runtime)
    assert (target / "mine.txt").exists()
    build_site(target, MODELS[:1], no_runtime, overwrite=True)
    assert not (target / "mine.txt").exists()
    assert "mnist-blind" not in (target / "models.js").read_text()
    assert sorted(os.listdir(tmp_path)) == [".site.lock", "site"]
    with pytest.raises(UserError, match="something else"):
        build_site(no_runtime, MODELS, no_runtime, overwrite=True)


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ([("mnist", "nowhere")], "expected a run folder with model.onnx"),
        ([("a/b", MODELS[0][1])], "expected different names"),
        ([MODELS[0], MODELS[0]], "expected different names"),
    ],
)
def test_bad_models_leave_nothing(models, message, no_runtime, tmp_path):
    with pytest.raises(UserError, match=message):
        build_site(tmp_path / "site", models, no_runtime)
    assert os.listdir(tmp_path) in ([], [".site.lock"])


def test_no_runtime_is_one_line(tmp_path, monkeypatch, capsys):
    """onnxruntime-web is not in the folder, or npm is missing."""
    command = ["web", "--output-dir", str(tmp_path / "site"), "--model", f"mnist={MODELS[0][1]}"]
    assert_user_error(main([*command, "--node-modules", str(tmp_path)]), capsys.readouterr().err, "onnxruntime-web")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("KERAS_DAE_NODE_MODULES", raising=False)
    assert_user_error(main(command), capsys.readouterr().err, "expected npm")
    assert os.listdir(tmp_path) in ([], [".site.lock"])


def replace_npm(folder, monkeypatch, script):
    """Put a shell script in the place of npm, which is then needed."""
    npm = folder / "bin" / "npm"
    npm.parent.mkdir()
    npm.write_text(f"#!/bin/sh\n{script}\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", str(npm.parent), prepend=os.pathsep)
    monkeypatch.delenv("KERAS_DAE_NODE_MODULES", raising=False)


def test_npm_without_network_is_one_line(tmp_path, monkeypatch, capsys):
    replace_npm(tmp_path, monkeypatch, "echo 'npm error code ENOTFOUND' >&2\nexit 1")
    command = ["web", "--output-dir", str(tmp_path / "site"), "--model", f"mnist={MODELS[0][1]}"]
    assert_user_error(main(command), capsys.readouterr().err, "npm error code ENOTFOUND", "--node-modules")
    assert not (tmp_path / "site").exists()


def test_npm_that_hangs_is_one_line(tmp_path, monkeypatch, capsys):
    replace_npm(tmp_path, monkeypatch, "exec sleep 60")
    monkeypatch.setattr(runtime, "NPM_SECONDS", 0.2)
    command = ["web", "--output-dir", str(tmp_path / "site"), "--model", f"mnist={MODELS[0][1]}"]
    assert_user_error(main(command), capsys.readouterr().err, "within 0.2 seconds", "--node-modules")
    assert not (tmp_path / "site").exists()


@pytest.mark.parametrize("arguments", [[], ["--output-dir", "site", "--model", "mnist"]])
def test_wrong_arguments(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["web", *arguments])
    assert stopped.value.code == 2
    assert "expected" in capsys.readouterr().err


def test_headers_and_types(hollow):
    with served(hollow) as url:
        connection = http.client.HTTPConnection(url.split("/")[2])
        for path, kind in {
            "": "text/html",
            "page.js": "text/javascript",
            "ort/ort.wasm.min.js": "text/javascript",
            "ort/ort-wasm-simd-threaded.wasm": "application/wasm",
        }.items():
            connection.request("GET", f"/{path}")
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200
            assert answer.headers["Content-Type"].split(";")[0] == kind
            assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
            assert answer.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
        connection.close()


def test_serve_names_a_taken_port_and_an_empty_folder(hollow, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UserError, match="--port"):
            make_server(hollow, taken.getsockname()[1])
    with pytest.raises(UserError, match=r"no index\.html"):
        make_server(tmp_path)
