"""The web page: what is built, how it is served, and what it does in a real browser."""

import base64
import gzip
import http.client
import json
import os
import re
import shutil
import socket
import threading
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from browser import Browser, missing
from conftest import assert_user_error, run_module, smooth_picture
from PIL import Image

from export.web.build import build_site
from export.web.runtime import FILES
from export.web.serve import ISOLATED, Handler, Server, make_server
from keras_dae.denoise import load_denoiser
from keras_dae.errors import UserError

ROOT = Path(__file__).parent.parent
MODELS = [(name, ROOT / "saved_models" / name) for name in ("mnist", "mnist-blind")]
PAGE_BYTES = 800_000  # everything but onnxruntime-web
SEVEN = [[(0.28, 0.25), (0.7, 0.25), (0.45, 0.8)]]


@pytest.fixture(scope="module")
def no_runtime(tmp_path_factory):
    """A node_modules folder with an onnxruntime-web that is empty."""
    modules = tmp_path_factory.mktemp("node_modules")
    (modules / "onnxruntime-web" / "dist").mkdir(parents=True)
    for name in FILES:
        (modules / "onnxruntime-web" / "dist" / name).touch()
    return modules


@pytest.fixture(scope="module")
def hollow(no_runtime, tmp_path_factory):
    """A site that is whole but for onnxruntime-web."""
    return build_site(tmp_path_factory.mktemp("hollow") / "site", MODELS, no_runtime)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A whole site, two folders below the one that is returned with it."""
    if absent := missing():
        pytest.skip(absent)
    return build_site(tmp_path_factory.mktemp("site") / "some" / "where", MODELS)


@pytest.fixture(scope="module")
def browser(site):
    with Browser() as browser:
        yield browser


@contextmanager
def served(site, headers=ISOLATED, below=""):
    """Yield the address of a folder, or of one below it, while it is served."""
    with make_server(site, headers_sent=headers) if not below else plain_server(site) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/{below}"
        finally:
            server.shutdown()
            thread.join()


def plain_server(folder):
    """Return a host as others run them: nothing special but for .gz, which it sends so that browsers unpack it."""

    class Plain(Handler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(folder), headers_sent={})

        def end_headers(self):
            if self.path.endswith(".gz"):
                self.send_header("Content-Encoding", "gzip")
            super().end_headers()

    return Server(("127.0.0.1", 0), Plain)


@pytest.fixture(scope="module")
def isolated(site):
    with served(site) as url:
        yield url


@pytest.fixture(scope="module")
def plain(site):
    """The same site in a subfolder of a host without the headers for threads."""
    with served(site.parent.parent, below="some/where/") as url:
        yield url


def run(browser, scenario, url, **arguments):
    """Return a scenario's result, after checking that the page is silent and asks nobody else."""
    result, errors, requests = browser.run(scenario, url, **arguments)
    assert errors == []
    assert requests
    assert [request for request in requests if not request.startswith((url, f"blob:{url[:-1]}"))] == []
    return result


def psnr(clean, image):
    return -10 * np.log10(np.mean((np.float64(clean) - image) ** 2) / 255**2)


# What is built


def test_site_is_whole(hollow):
    models = json.loads((hollow / "models.js").read_text().removeprefix("export default ").rstrip(";\n"))
    assert [model["id"] for model in models] == ["mnist-float", "mnist-int8", "mnist-blind-int8"]
    for model, run_folder in zip(models, (MODELS[0], MODELS[0], MODELS[1])):
        exported = run_folder[1] / ("model.onnx" if model["format"] == "float" else "model.int8.onnx")
        assert gzip.decompress((hollow / model["url"]).read_bytes()) == exported.read_bytes()
    with Image.open(hollow / "digits.png") as sprite:
        assert (sprite.size, sprite.mode) == ((280, 280), "L")
    assert "Microsoft" in (hollow / "ort" / "LICENSE.txt").read_text()
    page = (hollow / "index.html").read_text()
    links = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert links
    assert all((hollow / link).is_file() for link in links)  # relative ones, that are there
    assert not re.search(r"\son\w+=", page)


def test_page_is_small(hollow):
    files = [path for path in hollow.rglob("*") if path.is_file() and path.parent.name != "ort"]
    assert len(files) > 10
    assert sum(path.stat().st_size for path in files) <= PAGE_BYTES


def test_build_twice_is_the_same(hollow, no_runtime, tmp_path):
    again = build_site(tmp_path / "site", MODELS, no_runtime)
    assert again.stat().st_mode == hollow.stat().st_mode
    files = {path.relative_to(hollow) for path in hollow.rglob("*") if path.is_file()}
    assert files == {path.relative_to(again) for path in again.rglob("*") if path.is_file()}
    assert all((hollow / name).read_bytes() == (again / name).read_bytes() for name in files)


def test_shipped_models_are_the_default(hollow, no_runtime, tmp_path):
    site = build_site(tmp_path / "site", node_modules=no_runtime)
    assert (site / "models.js").read_text() == (hollow / "models.js").read_text()


def test_never_overwrites(no_runtime, tmp_path):
    target = tmp_path / "site"
    build_site(target, MODELS[:1], no_runtime)
    (target / "mine.txt").touch()
    with pytest.raises(UserError, match="--overwrite"):
        build_site(target, MODELS, no_runtime)
    assert (target / "mine.txt").exists()
    build_site(target, MODELS, no_runtime, overwrite=True)
    assert not (target / "mine.txt").exists()
    assert os.listdir(tmp_path) == ["site"]
    with pytest.raises(UserError, match="something else"):
        build_site(no_runtime, MODELS, no_runtime, overwrite=True)


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ([("mnist", "nowhere")], "expected a run folder with model.onnx"),
        ([("a/b", MODELS[0][1])], "expected names"),
        ([MODELS[0], MODELS[0]], "expected names"),
    ],
)
def test_bad_models_leave_nothing(models, message, no_runtime, tmp_path):
    with pytest.raises(UserError, match=message):
        build_site(tmp_path / "site", models, no_runtime)
    assert not list(tmp_path.iterdir())


def test_no_runtime_is_one_line(tmp_path):
    """Neither where it was said to be, nor npm to fetch it with."""
    command = ["export", "web", "--output-dir", tmp_path / "site", "--model", f"mnist={MODELS[0][1]}"]
    done = run_module(*command, "--node-modules", tmp_path, cwd=ROOT)
    assert_user_error(done.returncode, done.stderr, "onnxruntime-web", tmp_path)
    done = run_module(*command, cwd=ROOT, env={"PATH": str(tmp_path), "KERAS_DAE_NODE_MODULES": ""})
    assert_user_error(done.returncode, done.stderr, "expected npm")
    assert not list(tmp_path.iterdir())


# How it is served


def test_headers_and_types(hollow):
    with served(hollow) as url:
        connection = http.client.HTTPConnection(url.split("/")[2])
        for path, kind in {
            "": "text/html",
            "page.js": "text/javascript",
            "ort/ort.wasm.min.mjs": "text/javascript",
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


def test_serve_tells_of_a_taken_port_and_an_empty_folder(hollow, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UserError, match="--port"):
            make_server(hollow, taken.getsockname()[1])
    with pytest.raises(UserError, match=r"no index\.html"):
        make_server(tmp_path)


# What it does in a browser


def test_page_loads_and_denoises(browser, plain):
    shown = run(browser, "look", plain)
    assert shown["message"] == ""
    assert "1 thread" in shown["about"]
    assert "gaussian" in shown["about"]
    assert psnr(shown["clean"], shown["denoised"]) > psnr(shown["clean"], shown["noisy"]) + 5


def test_drawn_digit(browser, isolated):
    shown = run(browser, "draw", isolated, lines=SEVEN)
    clean = np.array(shown["clean"])
    assert clean.shape == (28, 28)
    assert clean.max() == 255  # a white stroke
    assert 0.05 < np.mean(clean > 127) < 0.25  # as wide as MNIST's, on black
    before, after = psnr(clean, shown["noisy"]), psnr(clean, shown["denoised"])
    assert after > before + 5
    assert float(shown["noisy-psnr"].split()[0]) == pytest.approx(before, abs=0.1)
    assert float(shown["denoised-psnr"].split()[0]) == pytest.approx(after, abs=0.1)
    assert float(shown["denoised-psnr"].split()[2]) == pytest.approx(after - before, abs=0.1)


@pytest.mark.parametrize("way", ["chosen", "dropped"])
def test_photograph_keeps_its_size(way, browser, isolated, tmp_path):
    """Without noise added, so that what comes out is what Python makes of the same file."""
    file = tmp_path / "photograph.png"
    if way == "chosen":
        import skimage.data

        Image.fromarray(skimage.data.camera()).resize((300, 200)).save(file)
        shown = run(browser, "open", isolated, file=str(file), size=(300, 200))
    else:
        Image.fromarray(smooth_picture(200, 300, seed=0)).save(file)
        content = base64.b64encode(file.read_bytes()).decode()
        shown = run(browser, "open", isolated, base64=content, size=(300, 200))
    grey = np.asarray(Image.open(file).convert("L"))
    np.testing.assert_array_equal(shown["clean"], grey)
    np.testing.assert_array_equal(shown["noisy"], grey)
    assert shown["noisy-psnr"] == "identical"
    assert "300×200" in shown["facts"]
    expected = load_denoiser(MODELS[0][1])(grey)
    assert np.abs(np.array(shown["denoised"]) - expected).max() <= 1


def test_what_is_no_image_is_named(browser, isolated, tmp_path):
    (tmp_path / "notes.png").write_text("no image")
    shown = run(browser, "open", isolated, file=str(tmp_path / "notes.png"), size=(1, 1))
    assert "notes.png is no image" in shown["message"]
    Image.new("L", (4000, 1001)).save(tmp_path / "large.png")
    shown = run(browser, "open", isolated, file=str(tmp_path / "large.png"), size=(4000, 1001))
    assert "4.0 megapixels; this page takes up to 4" in shown["message"]


@pytest.mark.parametrize("threads", ["single", "several"])
def test_agrees_with_python(threads, browser, request, digits):
    """256 noisy digits, in floats; 8 bits are the same sums, rounded elsewhere."""
    url = request.getfixturevalue("plain" if threads == "single" else "isolated")
    random = np.random.default_rng(0)
    clean = np.resize(digits, (256, 28, 28, 1)) / np.float32(255)
    noisy = np.clip(clean + 0.5 * random.standard_normal(clean.shape, np.float32), 0, 1)
    for number, (model, file) in enumerate([("mnist-float", "model.onnx"), ("mnist-int8", "model.int8.onnx")]):
        content = base64.b64encode(noisy.tobytes()).decode()
        shown = run(browser, "denoise", url, id=model, count=256, base64=content)
        assert shown["isolated"] is (threads == "several")
        assert (shown["threads"] > 1) is (threads == "several" and os.cpu_count() > 1)
        denoised = np.frombuffer(base64.b64decode(shown["base64"]), np.float32).reshape(noisy.shape)
        difference = np.abs(denoised - load_denoiser(MODELS[0][1] / file)(noisy))
        assert (difference.max() if number == 0 else difference.mean()) <= (1e-5, 1e-3)[number]


def test_noise_is_pythons(browser, plain):
    """The moments that keras_dae/noise.py defines, on grey 0.5, where 0.1 is never cut; the same again by the seed."""
    noise = run(browser, "noise", plain, grey=0.5, factor=0.1, seed=1)
    for name, mean, std, share in [
        ("gaussian", 0.5, 0.1, 1),
        ("salt_and_pepper", 0.5, 0.5 * 0.1**0.5, 0.1),
        ("speckle", 0.5, 0.05, 1),
    ]:
        assert noise[name]["mean"] == pytest.approx(mean, abs=0.002)
        assert noise[name]["std"] == pytest.approx(std, rel=0.02)
        assert noise[name]["share"] == pytest.approx(share, abs=0.003)
    assert run(browser, "noise", plain, grey=0.5, factor=0.1, seed=1) == noise
    assert run(browser, "noise", plain, grey=0.5, factor=0.1, seed=2)["gaussian"]["first"] != noise["gaussian"]["first"]


def test_keyboard_without_network(browser, isolated):
    """Every model and noise, and each button, with nothing left to load."""
    seen = run(browser, "offline", isolated)
    pictures = [(step["noisy"], step["denoised"]) for step in seen]
    assert all(before != after for before, after in pairwise(pictures))
    steps = {name: [step for step in seen if step["name"] == name] for name in ("factor", "noises", "models")}
    assert steps["factor"][0]["factor-value"] == "0.51"
    assert len({step["meaning"] for step in steps["noises"]}) == 2
    assert len(steps["models"]) == 2
    assert all(step["message"] == "" for step in seen)


@pytest.mark.parametrize("width", [320, 400])
def test_fits_a_phone(width, browser, plain):
    narrow = run(browser, "narrow", plain, width=width)
    assert narrow["overflow"] == 0
    assert narrow["target"] >= 44


def test_without_webassembly_it_says_so(browser, plain):
    assert "no WebAssembly" in run(browser, "message", plain, without="WebAssembly", ready="#message.error")


def test_a_damaged_model_is_named_and_the_others_work(browser, site, tmp_path):
    damaged = tmp_path / "damaged"
    shutil.copytree(site, damaged, copy_function=os.link)
    (model,) = damaged.glob("models/mnist.float.*")
    model.unlink()
    model.write_bytes(gzip.compress(b"no model"))
    with served(damaged) as url:
        shown, _, _ = browser.run("look", url)
    assert "The model mnist (float) cannot be loaded" in shown["message"]
    assert psnr(shown["clean"], shown["denoised"]) > psnr(shown["clean"], shown["noisy"]) + 3


def test_without_onnxruntime_it_says_so(browser, hollow):
    with served(hollow) as url:
        message, _, _ = browser.run("message", url, ready="#message.error")
    assert "cannot be" in message
