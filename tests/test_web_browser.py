"""The web page in a real browser: what it shows, and that it computes the same as Python."""

import base64
import gzip
import os
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from browser import Browser, missing, served, served_plainly
from conftest import smooth_picture
from PIL import Image

from export.web.build import build_site
from keras_dae.denoise.denoiser import load_denoiser

ROOT = Path(__file__).parent.parent
MODELS = [(name, ROOT / "saved_models" / name) for name in ("mnist", "mnist-blind")]
SEVEN = [[(0.28, 0.25), (0.7, 0.25), (0.45, 0.8)]]  # a stroke; both coordinates go from 0 to 1 across the canvas


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The complete site, two folders below a folder that can be served."""
    if absent := missing():
        pytest.skip(absent)
    return build_site(tmp_path_factory.mktemp("site") / "some" / "where", MODELS)


@pytest.fixture(scope="module")
def browser(site):
    with Browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def isolated(site):
    with served(site) as url:
        yield url


@pytest.fixture(scope="module")
def plain(site):
    """The same site in a subfolder of a host that does not send the headers for threads."""
    with served_plainly(site.parent.parent) as url:
        yield f"{url}some/where/"


def run(browser, scenario, url, **arguments):
    """Return the result of a scenario. The page must print no errors and send no requests to other hosts."""
    result, errors, requests = browser.run(scenario, url, **arguments)
    assert errors == []
    assert requests
    assert [request for request in requests if not request.startswith(url)] == []
    return result


def psnr(clean, image):
    return -10 * np.log10(np.mean((np.float64(clean) - image) ** 2) / 255**2)


def test_page_loads_and_denoises(browser, plain):
    shown = run(browser, "look", plain)
    assert shown["message"] == ""
    assert shown["facts"].endswith("on 1 thread.")
    assert "gaussian" in shown["about"]
    assert psnr(shown["clean"], shown["denoised"]) > psnr(shown["clean"], shown["noisy"]) + 5


@pytest.mark.parametrize("finger", [False, True])
def test_drawn_digit(finger, browser, isolated):
    shown = run(browser, "draw", isolated, lines=SEVEN, finger=finger)
    assert shown["scrolled"] == 0
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
    """No noise is added, so the result must be what Python computes from the same file."""
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
    assert "trained only on mnist" in shown["note"]
    assert "8-bit" not in shown["note"]


def test_a_second_finger_neither_draws_nor_ends_the_line(browser, isolated):
    line = [(0.1, 0.3), (0.5, 0.3), (0.9, 0.3)]
    clean = np.array(run(browser, "tapped", isolated, line=line, tap=(0.5, 0.8))["clean"])
    assert (clean[8, 4:24] > 127).all()  # the whole line
    assert clean[14:].max() == 0  # nothing where the second finger was


def test_a_file_that_is_no_image_is_named(browser, isolated, tmp_path):
    file = tmp_path / "notes.png"
    file.write_text("no image")
    assert "notes.png is no image" in run(browser, "refuse", isolated, file=str(file))


def test_a_large_image_is_made_smaller(browser, isolated, tmp_path):
    file = tmp_path / "large.png"
    Image.fromarray(smooth_picture(1250, 5000, seed=0)).save(file)
    shown = run(browser, "open", isolated, file=str(file), size=(4000, 1000))
    assert "large.png is made smaller here, from 5000×1250 pixels to 4000×1000" in shown["message"]
    with Image.open(file) as image:
        expected = np.asarray(image.convert("L").resize((4000, 1000)))
    assert psnr(expected, np.array(shown["clean"])) > 40


def test_the_last_file_opened_is_shown(browser, isolated, tmp_path):
    files = [tmp_path / "large.png", tmp_path / "small.png"]
    Image.fromarray(smooth_picture(1500, 2000, seed=0)).save(files[0])
    Image.new("L", (40, 30)).save(files[1])
    shown = run(browser, "hurry", isolated, files=[str(file) for file in files])
    assert "40×30" in shown["facts"]


def test_a_failure_shows_no_result(browser, isolated):
    failed, after = run(browser, "failing", isolated)
    assert "could not be denoised: out of memory" in failed["message"]
    assert failed["save"] is True  # disabled
    assert np.max(failed["denoised"]) == 0
    assert failed["denoised-psnr"] == ""
    assert (after["message"], after["save"]) == ("", False)
    assert psnr(after["clean"], after["denoised"]) > psnr(after["clean"], after["noisy"]) + 3


@pytest.mark.parametrize("threads", ["single", "several"])
def test_agrees_with_python(threads, browser, request, digits):
    """256 noisy digits. The 8-bit model rounds at other places in the browser, so only its mean error is small."""
    url = request.getfixturevalue("plain" if threads == "single" else "isolated")
    clean = np.resize(digits, (256, 28, 28, 1)) / np.float32(255)
    noise = np.random.default_rng(0).standard_normal(clean.shape, np.float32)
    noisy = np.clip(clean + noise / 2, 0, 1)
    ids = ["mnist-float", "mnist-int8"]
    result = run(browser, "denoise", url, ids=ids, count=256, base64=base64.b64encode(noisy.tobytes()).decode())
    assert result["isolated"] is (threads == "several")
    assert (result["threads"] > 1) is (threads == "several" and os.cpu_count() > 1)
    floats, int8 = (np.frombuffer(base64.b64decode(result["base64"][name]), np.float32) for name in ids)
    run_folder = MODELS[0][1]
    assert np.abs(floats - load_denoiser(run_folder / "model.onnx")(noisy).ravel()).max() <= 1e-5
    assert np.abs(int8 - load_denoiser(run_folder / "model.int8.onnx")(noisy).ravel()).mean() <= 1e-3


def test_noise_is_that_of_python(browser, plain):
    """The noise has the moments that keras_dae/noise.py defines. A seed always gives the same noise.

    The surface is grey 0.5, so that noise of strength 0.1 is not clipped.
    """
    first, again, other = run(browser, "noise", plain, grey=0.5, factor=0.1, seeds=[1, 1, 2], ready="main")
    for name, std, share in [("gaussian", 0.1, 1), ("salt_and_pepper", 0.5 * 0.1**0.5, 0.1), ("speckle", 0.05, 1)]:
        assert first[name]["mean"] == pytest.approx(0.5, abs=0.002)
        assert first[name]["std"] == pytest.approx(std, rel=0.02)
        assert first[name]["share"] == pytest.approx(share, abs=0.003)
    assert again == first
    assert other["gaussian"]["first"] != first["gaussian"]["first"]


def test_keyboard_without_network(browser, isolated):
    """Every model, noise and button works by keyboard after the network is gone."""
    seen = run(browser, "offline", isolated)
    pictures = [(step["noisy"], step["denoised"]) for step in seen]
    assert all(before != after for before, after in pairwise(pictures))
    steps = {name: [step for step in seen if step["name"] == name] for name in ("factor", "noises", "models")}
    assert steps["factor"][0]["factor-value"] == "0.51"
    assert len({step["meaning"] for step in steps["noises"]}) == 2
    assert len(steps["models"]) == 2
    assert all(step["message"] == "" for step in seen)


def test_fits_phones(browser, plain):
    for narrow in run(browser, "narrow", plain, widths=[320, 400]):
        assert narrow["overflow"] == 0
        assert narrow["target"] >= 44


def test_without_webassembly_there_is_a_message(browser, plain):
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


def test_without_onnxruntime_there_is_a_message(browser, site, tmp_path):
    shutil.copytree(site, tmp_path / "site", ignore=shutil.ignore_patterns("ort"))
    with served(tmp_path / "site") as url:
        message, _, _ = browser.run("message", url, ready="#message.error")
    assert "onnxruntime-web cannot be started" in message
