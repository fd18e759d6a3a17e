"""16-bit images that use a part of their range: one white for the whole dataset, measured, declared or given."""

import json

import numpy as np
import pytest
from PIL import Image

from keras_dae.config import TrainConfig
from keras_dae.data.load import load_dataset
from keras_dae.errors import UserError
from keras_dae.evaluate.trained_runs import evaluation_config
from keras_dae.runs.folder import load_config, run_description


def deep(maximum, count=30):
    """16-bit images of 24×24 pixels with values up to `maximum`, which only one image reaches."""
    images = np.random.default_rng(5).integers(0, maximum // 2, (count, 24, 24)).astype(np.uint16)
    images[count // 2, 3, 4] = maximum
    return images


def save(folder, images):
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number:02}.png")
    return folder


def load(place, **options):
    return load_dataset(TrainConfig(dataset=str(place), patch_size=24, **options))


def all_pixels(dataset):
    """Return the pixels of all images that are used, as a sorted list of images."""
    train = [dataset.train.read(index)[0] for index in range(len(dataset.train.patch_counts))]
    return np.sort(np.stack([*train, *dataset.validation.clean, *dataset.test.clean]), axis=None)


@pytest.mark.parametrize(
    ("maximum", "option", "white"),
    [
        (3900, "auto", 4095),
        (3900, "type", 65535),
        (3900, 5000, 5000),
        (40000, "auto", 65535),
        (200, "auto", 255),
    ],
)
def test_folder(tmp_path, capsys, maximum, option, white):
    images = deep(maximum)
    dataset = load(save(tmp_path / "camera", images), white=option)
    assert dataset.white == white
    assert np.array_equal(all_pixels(dataset), np.sort(images.astype(np.float32) / np.float32(white), axis=None))
    line = f"camera: the largest value of the 16-bit images is {maximum}; {white} becomes white, "
    assert line in capsys.readouterr().err


@pytest.mark.parametrize(("option", "white"), [("auto", 4095), ("type", 65535), (5000, 5000)])
def test_arrays(tmp_path, capsys, option, white):
    images = deep(3900)
    np.savez(tmp_path / "camera.npz", x_train=images, x_test=images[:5] // 2)
    dataset = load_dataset(TrainConfig(dataset=str(tmp_path / "camera.npz"), white=option))
    assert dataset.white == white
    assert np.array_equal(dataset.test.clean[..., 0], (images[:5] // 2).astype(np.float32) / np.float32(white))
    assert f"the largest value of the 16-bit images is 3900; {white} becomes white" in capsys.readouterr().err


def test_the_white_of_arrays_is_that_of_training_and_test_images(tmp_path):
    images = deep(900)
    np.savez(tmp_path / "camera.npz", x_train=images, x_test=images[:5] * 4)
    assert load_dataset(TrainConfig(dataset=str(tmp_path / "camera.npz"))).white == 2047


@pytest.mark.parametrize("order", "<>")
def test_arrays_of_both_byte_orders_have_the_same_white(order, tmp_path):
    images = deep(3900).astype(f"{order}u2")
    np.save(tmp_path / "camera.npy", images)
    dataset = load_dataset(TrainConfig(dataset=str(tmp_path / "camera.npy")))
    assert dataset.white == 4095
    pixels = np.concatenate([dataset.train, dataset.validation.clean, dataset.test.clean])
    assert np.array_equal(np.sort(pixels, axis=None), np.sort(images / np.float32(4095), axis=None))


def test_pairs_have_one_white(tmp_path):
    images = deep(1000)
    places = {
        "clean_dir": str(save(tmp_path / "clean", images)),
        "noisy_dir": str(save(tmp_path / "noisy", images * 4)),  # up to 4000
    }
    dataset = load_dataset(TrainConfig(**places, patch_size=24))
    assert dataset.white == 4095
    assert np.array_equal(dataset.test.noisy, dataset.test.clean * 4)
    assert 0 < dataset.test.clean.max() <= np.float32(1000 / 4095)


def test_8_bit_images_among_deeper_ones_keep_their_white(tmp_path):
    save(tmp_path, deep(3900, 20))
    for level in range(20):
        Image.new("L", (24, 24), 255 - level).save(tmp_path / f"grey{level}.png")
    dataset = load(tmp_path)
    assert dataset.white == 4095
    images = [dataset.train.read(index)[0] for index in range(len(dataset.train.patch_counts))]
    grey = {int(image.max()) for image in images if image.dtype == np.uint8}
    brightest = [float(image.max()) for image in images if image.dtype == np.float32]
    assert grey and grey <= set(range(236, 256))
    assert brightest and all(1900 / 4095 < value <= np.float32(3900 / 4095) for value in brightest)


def test_8_bit_images_are_as_they_were(tmp_path, capsys):
    dataset = load(save(tmp_path, (deep(255) % 256).astype(np.uint8)))
    assert dataset.white is None
    assert dataset.test.clean.dtype == np.uint8
    assert "white" not in capsys.readouterr().err


def test_images_above_a_given_white_are_named(tmp_path, capsys):
    dataset = load(save(tmp_path, deep(3900)), white=3000)
    assert len(dataset.skipped) == 1
    assert dataset.skipped[0].endswith("15.png: values up to 3900, above the white 3000")
    np.save(tmp_path / "camera.npy", deep(3900))
    with pytest.raises(UserError, match="expected values of at most 3000, the given white, got 3900"):
        load_dataset(TrainConfig(dataset=str(tmp_path / "camera.npy"), white=3000))


def test_floats_have_no_white(tmp_path):
    np.save(tmp_path / "floats.npy", deep(3900) / 4095)
    with pytest.raises(UserError, match="expected 8-bit or 16-bit images for --white 4095, got floats"):
        load_dataset(TrainConfig(dataset=str(tmp_path / "floats.npy"), white=4095))


def test_a_white_beyond_8_bits(tmp_path):
    np.save(tmp_path / "grey.npy", np.arange(16 * 28 * 28, dtype=np.uint8).reshape(16, 28, 28))
    with pytest.raises(UserError, match="expected --white from 1 to 255, the largest value of 8-bit images, got 4095"):
        load_dataset(TrainConfig(dataset=str(tmp_path / "grey.npy"), white=4095))


def test_a_white_without_images(tmp_path):
    """What is missing are images, not another white."""
    (tmp_path / "camera").mkdir()
    (tmp_path / "camera/0.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"0\.png"):
        load_dataset(TrainConfig(dataset=str(tmp_path / "camera"), white=4095))


def test_a_declared_white_is_taken(tmp_path):
    """TIFF tag 281, MaxSampleValue."""
    (tmp_path / "camera").mkdir()
    for number, image in enumerate(deep(3900)):
        Image.fromarray(image).save(tmp_path / f"camera/{number:02}.tif", tiffinfo={281: 16383})
    assert load(tmp_path / "camera").white == 16383


@pytest.mark.parametrize("value", [0, 65536, "maximum", True, 1.5])
def test_no_white(value):
    with pytest.raises(UserError, match="expected white to be"):
        TrainConfig(white=value)


def test_a_run_keeps_its_white(tmp_path):
    """So a folder that grows, or an evaluation on it, does not change what the network sees."""
    folder = save(tmp_path / "camera", deep(3900))
    config = TrainConfig(dataset=str(folder), patch_size=24)
    description = run_description(config, load_dataset(config))
    assert description["dataset"]["white"] == 4095
    assert description["config"]["white"] == "auto"
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.json").write_text(json.dumps(description))
    save(tmp_path / "camera/more", deep(9000))
    assert evaluation_config(tmp_path / "run", {}).white == 4095
    assert load_dataset(evaluation_config(tmp_path / "run", {})).white == 4095
    other = evaluation_config(tmp_path / "run", {"dataset": str(tmp_path / "camera/more")})
    assert (other.white, load_dataset(other).white) == ("auto", 16383)
    assert evaluation_config(tmp_path / "run", {"white": "type"}).white == "type"


def test_runs_of_0_1_0_divide_by_the_type(tmp_path):
    old = {"format": 1, "config": {"dataset": str(tmp_path)}, "dataset": {"name": "x", "sha256": ""}}
    (tmp_path / "config.json").write_text(json.dumps(old))
    assert load_config(tmp_path / "config.json").white == "type"
    assert load_config(tmp_path / "config.json", dataset="elsewhere").white == "auto"


def test_options(tmp_path, capsys):
    from keras_dae.evaluate.__main__ import parser as evaluate_parser
    from keras_dae.train.__main__ import parser as train_parser

    for parser, rest in ((train_parser(), []), (evaluate_parser(), ["run"])):
        found = [vars(parser.parse_args([*rest, "--white", text]))["white"] for text in ("auto", "type", "4095")]
        assert found == ["auto", "type", 4095]
