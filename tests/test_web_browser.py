"""The web page in a real browser: what it shows, and that it computes the same as Python."""

import base64
import gzip
import io
import os
import re
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from browser import Browser, missing, served, served_plainly
from conftest import smooth_picture
from PIL import Image, ImageOps

from export.to_onnx import export_onnx
from export.web.build import STATIC_FILES, build_site
from keras_dae.denoise.denoiser import load_denoiser
from keras_dae.networks.unet import build_unet

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
    assert [request for request in requests if not request.removeprefix("blob:").startswith(url)] == []
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


# Photographs


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """Name -> run folder of an untrained U-Net that changes all pixels: `colour` and `grey`."""
    folders = {}
    for name, channels in (("colour", 3), ("grey", 1)):
        model = build_unet((None, None, channels), initialization="he", seed=channels)
        for layer in model.layers:
            if layer.name.endswith("_conv2"):
                layer.set_weights([3 * weight for weight in layer.get_weights()])
        folders[name] = tmp_path_factory.mktemp(name)
        metadata = {"dataset": "photos", "noise": "gaussian", "noise_factor": "0.1", "image_size": "patches"}
        export_onnx(model, folders[name] / "model.onnx", metadata)
    return folders


@pytest.fixture(scope="module")
def photograph_site(networks, tmp_path_factory):
    if absent := missing():
        pytest.skip(absent)
    site = build_site(tmp_path_factory.mktemp("photographs") / "site", [*networks.items(), MODELS[0]])
    save_picture(site / "photograph.jpg", 40, 60)  # instead of the example, to save time
    return site


@pytest.fixture(scope="module")
def photographs(photograph_site):
    with served(photograph_site) as url:
        yield url


def save_picture(path, height, width, mode="RGB", **options):
    """Save noise on a smooth picture. Return the pixels."""
    channels = len(Image.new(mode, (1, 1)).getbands())
    noise = np.random.default_rng(0).integers(-30, 30, (height, width, channels))
    pixels = np.uint8(np.clip(smooth_picture(height, width, 1, channels) + noise, 0, 255))
    if mode == "RGBA":
        pixels[..., 3] = np.where(np.arange(width) < width // 2, 255, 200)
    pixels = pixels[..., 0] if channels == 1 else pixels
    Image.fromarray(pixels, mode).save(path, **options)
    return pixels


def result(shown):
    """Return the RGBA pixels that the page shows after denoising."""
    return np.frombuffer(base64.b64decode(shown["base64"]), np.uint8).reshape(shown["height"], shown["width"], 4)


def assert_close(actual, expected, most=1):
    """Check that pixels differ by one level of 255 at most, and that the picture is not just black and white."""
    assert np.mean((expected > 0) & (expected < 255)) > 0.5
    assert np.abs(actual.astype(int) - expected).max() <= most


def test_photographs_are_shown_first(browser, photographs):
    first, second, third = run(browser, "tabs", photographs, keys=["ArrowRight", "ArrowRight"])
    assert first == third == {"chosen": ["Photograph"], "panels": ["photograph"], "message": ""}
    assert second == {"chosen": ["Digits"], "panels": ["digits"], "message": ""}


def test_digits_alone_have_no_tabs(browser, isolated):
    assert run(browser, "tabs", isolated) == [{"chosen": [], "panels": ["digits"], "message": ""}]


def test_photographs_alone_have_no_tabs(browser, networks, tmp_path):
    with served(build_site(tmp_path / "site", [("colour", networks["colour"])])) as url:
        (shown,) = run(browser, "tabs", url)
        example = run(browser, "photograph", url)
    assert shown == {"chosen": [], "panels": ["photograph"], "message": ""}
    with Image.open(STATIC_FILES / "photograph.jpg") as image:
        expected = load_denoiser(networks["colour"])(np.asarray(image))
    assert_close(result(example)[..., :3], expected, most=8)  # JPEG decoders differ


@pytest.mark.parametrize(
    ("model", "size", "mode", "tiles"),
    [
        ("colour", (1, 1), "RGB", 1),
        ("colour", (5, 3), "L", 1),
        ("colour", (700, 900), "RGB", 2),
        ("colour", (1600, 41), "L", 3),
        ("grey", (1, 1), "RGB", 1),
        ("grey", (5, 3), "L", 1),
        ("grey", (700, 900), "L", 2),
        ("grey", (41, 1600), "RGB", 3),
    ],
)
def test_photograph_is_denoised_as_in_python(model, size, mode, tiles, browser, photographs, networks, tmp_path):
    pixels = save_picture(tmp_path / "it.png", *size, mode)
    shown = run(browser, "photograph", photographs, file=str(tmp_path / "it.png"), model=model)
    assert shown["message"] == ""
    expected = load_denoiser(networks[model])(pixels)
    assert_close(result(shown)[..., :3], np.broadcast_to(expected.reshape(*size, -1), (*size, 3)))
    assert (result(shown)[..., 3] == 255).all()
    assert shown["steps"] == [[done, tiles] for done in range(1, tiles + 1)]
    assert re.fullmatch(rf"[\d.e-]+ megapixels \({size[1]}×{size[0]}\) in \d+\.\d s on \d threads?\.", shown["facts"])
    assert f"{model} images (photos) with gaussian noise 0.1" in shown["about"]


def test_grey_photograph_in_three_equal_colours_is_grey(browser, photographs, networks, tmp_path):
    grey = save_picture(tmp_path / "grey.png", 60, 50, "L")
    Image.fromarray(grey).convert("RGB").save(tmp_path / "it.png")
    shown = run(browser, "photograph", photographs, file=str(tmp_path / "it.png"))
    assert_close(result(shown)[..., :3], load_denoiser(networks["colour"])(grey)[..., None])


def test_alpha_is_unchanged(browser, photographs, networks, tmp_path):
    """A canvas multiplies colours by alpha, which costs about one level of precision before the network runs."""
    pixels = save_picture(tmp_path / "it.png", 60, 50, "RGBA")
    shown = run(browser, "save", photographs, file=str(tmp_path / "it.png"))
    expected = load_denoiser(networks["colour"])(pixels)
    assert_close(result(shown), expected, most=6)
    assert_close(result(shown)[:, :25], expected[:, :25], most=6)
    np.testing.assert_array_equal(result(shown)[..., 3], pixels[..., 3])
    png, jpeg = (Image.open(io.BytesIO(base64.b64decode(file["base64"]))) for file in shown["files"])
    np.testing.assert_array_equal(np.asarray(png), result(shown))
    assert (png.mode, jpeg.mode) == ("RGBA", "RGB")


def test_saved_files_are_upright_and_have_all_pixels(browser, photographs, networks, tmp_path):
    """A camera stored a landscape turned by 90 degrees."""
    exif = Image.Exif()
    exif[0x0112] = 6
    file = tmp_path / "turned.jpg"
    save_picture(file, 60, 90, quality=95, subsampling=0, exif=exif)
    with Image.open(file) as image:
        upright = np.asarray(ImageOps.exif_transpose(image))
    assert upright.shape == (90, 60, 3)
    shown = run(browser, "save", photographs, file=str(file))
    assert_close(result(shown)[..., :3], load_denoiser(networks["colour"])(upright), most=8)  # JPEG decoders differ
    names = [(file["name"], file["type"]) for file in shown["files"]]
    assert names == [("turned-denoised.png", "image/png"), ("turned-denoised.jpg", "image/jpeg")]
    png, jpeg = (Image.open(io.BytesIO(base64.b64decode(file["base64"]))) for file in shown["files"])
    np.testing.assert_array_equal(np.asarray(png.convert("RGBA")), result(shown))
    assert jpeg.size == (60, 90)
    assert 0x0112 not in jpeg.getexif()
    assert psnr(np.asarray(png.convert("L")), np.asarray(jpeg.convert("L"))) > 30  # colours are stored more coarsely


def test_cancelling_stops_after_the_tile(browser, photographs, tmp_path):
    save_picture(tmp_path / "large.png", 1500, 1500, "L")
    shown = run(browser, "interrupted", photographs, file=str(tmp_path / "large.png"))
    assert shown["facts"] == "Cancelled."
    assert shown["left"] > 0
    assert (shown["isRunning"], shown["canSave"], shown["canRunAgain"]) == (False, False, True)


def test_a_new_photograph_cancels_the_one_before(browser, photographs, networks, tmp_path):
    save_picture(tmp_path / "large.png", 1500, 1500, "L")
    pixels = save_picture(tmp_path / "small.png", 30, 40)
    shown = run(
        browser, "interrupted", photographs, file=str(tmp_path / "large.png"), other=str(tmp_path / "small.png")
    )
    assert "(40×30)" in shown["facts"]
    assert (shown["isRunning"], shown["canSave"], shown["canRunAgain"]) == (False, True, False)
    assert_close(result(shown)[..., :3], load_denoiser(networks["colour"])(pixels))


def test_a_file_that_is_no_photograph_keeps_what_is_shown(browser, photographs, tmp_path):
    (tmp_path / "notes.png").write_text("no image")
    shown = run(browser, "refusedPhotograph", photographs, file=str(tmp_path / "notes.png"))
    assert "notes.png is no image" in shown["message"]
    assert "(60×40)" in shown["facts"]
    assert shown["canSave"]


def test_a_failed_photograph_can_be_denoised_again(browser, photographs, networks, tmp_path):
    pixels = save_picture(tmp_path / "it.png", 30, 40)
    failed, after = run(browser, "failingPhotograph", photographs, file=str(tmp_path / "it.png"))
    assert "could not be denoised: out of memory" in failed["message"]
    assert (failed["canSave"], failed["canRunAgain"]) == (False, True)
    assert result(failed).max() == 0
    assert (after["message"], after["canSave"], after["canRunAgain"]) == ("", True, False)
    assert_close(result(after)[..., :3], load_denoiser(networks["colour"])(pixels))


def test_a_damaged_model_for_photographs_is_named_and_the_next_is_used(browser, photograph_site, tmp_path):
    damaged = tmp_path / "damaged"
    shutil.copytree(photograph_site, damaged, copy_function=os.link)
    model = damaged / "models" / "colour.float.onnx.gz"
    model.unlink()
    model.write_bytes(gzip.compress(b"no model"))
    save_picture(tmp_path / "it.png", 30, 40)
    with served(damaged) as url:
        (shown,), _, _ = browser.run("tabs", url)
        assert "The model colour (float) cannot be loaded" in shown["message"]
        shown, _, _ = browser.run("photograph", url, file=str(tmp_path / "it.png"))
    assert "grey images" in shown["about"]
    assert "(40×30)" in shown["facts"]


def test_line_and_real_pixels(browser, photographs, tmp_path):
    """By keyboard, mouse and finger."""
    save_picture(tmp_path / "it.png", 500, 1000, "L")
    shown = run(browser, "compared", photographs, file=str(tmp_path / "it.png"))
    seen, (width, height) = shown["seen"], shown["size"]
    for name, percent in {"start": 50, "keys": 55, "mouse": 30, "finger": 70, "actual": 70, "moved": 70}.items():
        assert seen[name]["share"] == pytest.approx(percent / 100, abs=0.01)
        assert seen[name]["value"] == pytest.approx(percent, abs=1)
    assert seen["finger"]["width"] == pytest.approx(width, abs=1)
    assert seen["actual"]["width"] == 1000
    assert seen["actual"]["left"] == pytest.approx((width - 1000) / 2, abs=1)
    assert seen["actual"]["top"] == pytest.approx((height - 500) / 2, abs=1)
    assert seen["moved"]["left"] - seen["actual"]["left"] == pytest.approx(0.1 * width, abs=1)
    assert seen["moved"]["top"] - seen["actual"]["top"] == pytest.approx(0.1 * height, abs=1)
    assert seen["line"]["share"] == pytest.approx(0.8, abs=0.01)
    assert seen["line"]["left"] == seen["moved"]["left"]
    assert seen["down"]["top"] == seen["line"]["top"] - 40
    assert (seen["fit"]["left"], seen["fit"]["width"]) == (0, seen["start"]["width"])


@pytest.mark.parametrize("tab", ["photograph-tab", "digits-tab"])
def test_photographs_fit_phones(tab, browser, photographs):
    for narrow in run(browser, "narrow", photographs, widths=[320, 360, 400], tab=tab):
        assert narrow["overflow"] == 0
        assert narrow["target"] >= 44


# Runs on the processor. The second run, which is timed, takes no time, or 2 seconds.
WEBGPU_STUB = """
import * as processor from "./ort.wasm.min.js";
export const env = { wasm: {} };
export const { Tensor } = processor;
export const InferenceSession = {
  async create(bytes, options) {
    if (options.executionProviders[0] !== "webgpu" || FAILS) throw new Error("no device");
    const session = await processor.InferenceSession.create(bytes);
    let [runs, kept] = [0, null];
    return {
      async run(feeds) {
        runs += 1;
        if (runs === 2 && SLOW) await new Promise((resolve) => setTimeout(resolve, 2000));
        if (runs === 2) return kept;
        if (LOST && runs > 2) throw new Error("device lost");
        const { denoised } = await session.run(feeds);
        kept = { denoised: { data: denoised.data.map((value) => value + SHIFT) } };
        return kept;
      },
      release: () => session.release(),
    };
  },
};
"""


@pytest.mark.parametrize(
    ("case", "device"),
    [
        ({"SHIFT": "5e-4"}, "WebGPU"),
        ({"SHIFT": "2e-3"}, "threads?"),
        ({"SHIFT": "NaN"}, "threads?"),
        ({"SLOW": "true"}, "threads?"),
        ({"FAILS": "true"}, "threads?"),
        ({"LOST": "true"}, "threads?"),
    ],
    ids=str,
)
def test_webgpu_is_used_if_it_is_right_and_faster(case, device, browser, photograph_site, networks, tmp_path):
    """If it fails later, the processor takes its place."""
    site = tmp_path / "site"
    shutil.copytree(photograph_site, site, copy_function=os.link)
    stub = site / "ort" / "ort.webgpu.min.js"
    stub.unlink()
    constants = {"SHIFT": "0", "SLOW": "false", "FAILS": "false", "LOST": "false", **case}
    stub.write_text("".join(f"const {name} = {value};\n" for name, value in constants.items()) + WEBGPU_STUB)
    pixels = save_picture(tmp_path / "it.png", 30, 40)
    with served(site) as url:
        shown = run(browser, "accelerated", url, file=str(tmp_path / "it.png"), adapter=True)
    assert re.search(rf" {device}\.$", shown["facts"])
    assert_close(result(shown)[..., :3], load_denoiser(networks["colour"])(pixels))


@pytest.mark.slow
def test_webgpu_gives_the_same_pixels(photographs):
    """Chromium computes WebGPU on the processor here, which is slow."""
    with Browser("--enable-unsafe-webgpu") as browser:
        measured, errors, _ = browser.run("webgpu", photographs, model="colour", side=32)
    if measured is None:
        pytest.skip("this chromium has no WebGPU")
    assert errors == []
    assert measured["same"] is True
    assert measured["milliseconds"]["webgpu"] > 0
