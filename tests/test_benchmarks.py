"""The benchmarks' referee and summary; what they measure is not tested."""

import json
import re

import numpy as np
import pytest

from benchmarks.contender import take_turns
from benchmarks.inference import BATCHES, FIXED_SIZE_CONTENDERS
from benchmarks.inference import CONTENDERS as WAYS
from benchmarks.summary import MULTIPLY_ADDS, plot, ratios, table

COUNTING = """
import itertools
from benchmarks.contender import serve
count = itertools.count()
def measure():
    print("not an answer")
    return {"turn": next(count)}
serve(measure)
"""


@pytest.fixture
def modules(tmp_path, monkeypatch):
    (tmp_path / "counting.py").write_text(COUNTING)
    (tmp_path / "failing.py").write_text("raise SystemExit('no such thing here')")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:.")


def test_contenders_take_turns(modules):
    results = take_turns({"one": ["counting"], "other": ["counting"]}, rounds=3, name="test")
    assert [results[name]["turn"] for name in results] == [[1, 2, 3]] * 2  # the first turn is to warm up
    assert all(5 < peak < 200 for peak in results["one"]["peak MiB"])


def test_a_contender_that_fails_says_why(modules):
    with pytest.raises(RuntimeError, match=r"(?s)-m failing failed:.*no such thing here"):
        take_turns({"one": ["failing"]}, rounds=1, name="test")


@pytest.fixture
def results():
    def contest(seconds):
        return {
            name: {**{f"batch {size}": [seconds * size] * 3 for size in BATCHES}, "peak MiB": [100.0] * 3}
            for name, seconds in seconds.items()
        }

    seconds = dict.fromkeys(WAYS, 2e-05) | {"PyTorch's ONNX export": 4e-5}
    products = {"onnxruntime": {"matrix product": [60] * 3, "convolution": [100] * 3, "peak MiB": [90] * 3}}
    names = ("processor", "cores", "python", "tensorflow", "keras", "onnxruntime", "torch")
    return {
        "machine": dict.fromkeys(names, 9),
        "rounds": 3,
        "inference": {"1 thread": contest(seconds)},
        "fixed_size": {"1 thread": contest({name: seconds[name] / 4 for name in FIXED_SIZE_CONTENDERS})},
        "peak": {"1 thread": products},
    }


def test_ratios(results):
    found = ratios(results)
    assert found["images/s at batch 256, 1 thread: model.onnx / PyTorch's ONNX export"] == pytest.approx(2)
    assert found["images/s at batch 1, sizes fixed, 1 thread: model.onnx / PyTorch's ONNX export"] == pytest.approx(2)
    share = MULTIPLY_ADDS / 2e-5 / 100e9
    assert found["model.onnx at batch 256, 1 thread: share of the convolution peak"] == pytest.approx(share)


def test_table_and_plot(results, tmp_path):
    lines = table(results).splitlines()
    assert any(re.fullmatch(r"\| model.onnx \|( 50,000 \|){4} 100 \|", line) for line in lines)
    assert "| milliseconds at batch 1, sizes fixed | 1 thread |" in lines and "| model.onnx | 0.005 |" in lines
    plot(results, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 10_000


def test_multiply_adds_are_the_networks():
    from keras_dae.networks.autoencoder import build_autoencoder

    layers = [layer for layer in build_autoencoder((28, 28, 1)).layers if layer.weights]
    # Each tap of a kernel meets each pixel of the smaller side of its layer once.
    pixels = [14 * 14, 7 * 7, 3 * 3, 3 * 3, 7 * 7, 14 * 14]
    assert sum(int(layer.kernel.shape.num_elements()) * size for layer, size in zip(layers, pixels)) == MULTIPLY_ADDS


class TestScaling:
    """The simulation of a cluster, on jobs that can be worked out by hand."""

    @pytest.fixture
    def simulate(self):
        pytest.importorskip("ray")
        from benchmarks.scaling import Costs, simulate

        costs = Costs(start=2, actor=3, dispatch=0.001, task=0.01, image=0.0001, image_bytes=1000, listed=100)
        return lambda workers, **changed: simulate(costs._replace(**changed), 100_000, 100, 100, workers)

    def test_cores(self, simulate):
        one, four, many = (simulate(workers).seconds for workers in (1, 4, 1000))
        assert one == pytest.approx(2 + 1 + 3 + 100 * 0.11)  # Ray, listing, the actor; then a task after another
        assert four == pytest.approx(2 + 1 + 3 + 25 * 0.11)
        assert many == pytest.approx(2 + 1 + 3 + 0.11)

    @pytest.mark.parametrize(
        ("changed", "name", "seconds"),
        [
            ({"dispatch": 1}, "driver", 2 + 1 + 100 + 0.11),
            ({"listed": 1}, "listing", 2 + 100 + 3 + 0.11),
            ({"store_bytes": 1e6}, "store", 2 + 1 + 3 + 100),
            ({"store_files": 1}, "store", 2 + 1 + 3 + 100),
        ],
    )
    def test_bottleneck(self, simulate, changed, name, seconds):
        outcome = simulate(1000, **changed)
        assert outcome.seconds == pytest.approx(seconds)
        assert max(outcome.busy, key=outcome.busy.get) == name


def test_denoising_measures_what_others_do(tmp_path, capsys):
    """PSNR per image and then averaged, of noise that is not clipped, the same for all contenders."""
    from conftest import smooth_picture
    from PIL import Image

    from benchmarks.denoising import add_noise, main

    for index in range(3):
        Image.fromarray(smooth_picture(48, 40, index)).save(tmp_path / f"{index}.png")
    options = [
        "--images",
        tmp_path,
        "--sigma",
        15,
        "50",
        "--no-speed",
        "--no-classical",
        "--output",
        tmp_path / "o.json",
    ]
    assert main([str(option) for option in ("mnist", "mnist-blind", *options)]) == 0
    results = json.loads((tmp_path / "o.json").read_text())
    assert results["images"] == 3
    assert set(results["quality"]) == {"15", "50"}
    for level, contenders in results["quality"].items():
        assert set(contenders) == {"noisy", "mnist", "mnist-blind"}
        mean, low, high = contenders["noisy"]["psnr"]
        assert mean == pytest.approx(-20 * np.log10(int(level) / 255), abs=0.6)
        assert low < mean < high
        assert mean == pytest.approx(np.mean(contenders["noisy"]["psnr_of_images"]))
    assert "| σ = 50 | PSNR (dB) | 95 % | SSIM |" in capsys.readouterr().out
    image = np.full((40, 40, 1), 0.9, np.float32)
    assert add_noise(image, 50, 0).max() > 1.3
    assert np.array_equal(add_noise(image, 50, 1), add_noise(image, 50, 1))


def test_denoising_without_images(tmp_path, capsys):
    from benchmarks.denoising import main

    assert main(["mnist", "--images", str(tmp_path), "--output", str(tmp_path / "o.json")]) == 2
    assert "expected images in" in capsys.readouterr().err


def test_pytorchs_unet_has_the_layers_of_ours():
    pytest.importorskip("torch")
    from benchmarks.torch_unet import UNet
    from keras_dae.torch_weights import expected_shapes

    shapes = {key: tuple(value.shape) for key, value in UNet(channels=3).state_dict().items()}
    assert shapes == expected_shapes(3, "unet")


def test_shapes_include_the_network():
    from benchmarks.network_shapes import SHAPES, build
    from keras_dae.networks.unet import build_unet

    ours = sorted(weight.shape for weight in build_unet().get_weights())
    assert sorted(weight.shape for weight in build(*SHAPES["H1 with 3 middle blocks"]).get_weights()) == ours
