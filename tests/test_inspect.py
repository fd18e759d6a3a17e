"""Noise is measured as it was made: level, curve, autocorrelation, shifts, and the verdict."""

import dataclasses
import io
import shlex

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageDraw

from keras_dae.errors import UserError
from keras_dae.inspect import folder as inspect_folder_module
from keras_dae.inspect.blocks import Blocks, blocks_of, operator_of
from keras_dae.inspect.correlation import autocorrelation, correlation_map
from keras_dae.inspect.curve import BlockSample, curve_of_blocks, curve_of_differences, difference_bins, fit_line
from keras_dae.inspect.folder import inspect_folder
from keras_dae.inspect.level import MEDIAN_OF_WHITE, noise_level
from keras_dae.inspect.shift import shift_between
from keras_dae.inspect.verdict import judge
from keras_dae.train.__main__ import parser as training_parser

HEIGHT, WIDTH = 384, 512


def white(seed, shape=(HEIGHT, WIDTH, 1)):
    """White noise of standard deviation 1."""
    return np.random.default_rng(seed).standard_normal(shape)


def blurred(seed, shape=(HEIGHT, WIDTH, 1)):
    """Noise of standard deviation 1: means of 2×2 values, with an autocorrelation of 0.5 at one pixel, 0 at two."""
    noise = white(seed, (shape[0] + 1, shape[1] + 1, *shape[2:]))
    return (noise[1:, 1:] + noise[:-1, 1:] + noise[1:, :-1] + noise[:-1, :-1]) / 2


def scene(seed, channels=1, low=70, high=190):
    """A smooth picture from `low` to `high`."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH][..., None] / 80
    wave = np.sin(rows + seed + np.arange(channels)) * np.cos(columns - 2 * seed)
    return (low + high) / 2 + (high - low) / 2 * wave


def write(folder, images, suffix="png", **options):
    """Write images in 0 … 255 as 8-bit files `0`, `1`, …; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, image in enumerate(images):
        pixels = np.rint(image).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels.squeeze()).save(folder / f"{index}.{suffix}", **options)
    return folder


@pytest.fixture(scope="module")
def white_folder(tmp_path_factory):
    return write(tmp_path_factory.mktemp("white"), [scene(seed) + 10 * white(seed) for seed in range(4)])


@pytest.fixture(scope="module")
def correlated_folder(tmp_path_factory):
    return write(tmp_path_factory.mktemp("correlated"), [scene(seed) + 10 * blurred(seed) for seed in range(4)])


# The level


@pytest.mark.parametrize("sigma", [1, 5, 25, 50])
def test_level_of_white_noise(sigma):
    levels = [noise_level(blocks_of(scene(seed) + sigma * white(seed))) for seed in range(4)]
    assert np.mean(levels) == pytest.approx(sigma, rel=0.025)


def test_median_of_white():
    variances = blocks_of(white(0, (2048, 1024, 1)), max_pixels=2**22).operator_variance
    assert np.mean(variances) == pytest.approx(1, abs=0.01)
    assert np.median(variances) == pytest.approx(MEDIAN_OF_WHITE, abs=0.01)


def test_gradients_are_no_noise():
    rows, columns = np.mgrid[:64, :64][..., None]
    assert noise_level(blocks_of(100 + 0.5 * rows + 0.25 * columns)) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize(("level", "sigma"), [(255, 20), (235, 20), (0, 20), (128, 80)])
def test_level_of_noise_that_is_cut_off(level, sigma):
    image = np.rint(level + sigma * white(1)).clip(0, 255).astype(np.uint8)
    assert noise_level(blocks_of(image)) == pytest.approx(sigma, rel=0.05 if sigma < 80 else 0.15)


def test_detail_adds_little():
    """Half of the image is a fine texture; the other half decides."""
    image = scene(0)
    image[:, : WIDTH // 2] += 30 * np.sign(white(9, (HEIGHT // 4, WIDTH // 8, 1)).repeat(4, 0).repeat(4, 1))
    noisy = image + 5 * white(2)
    assert noise_level(blocks_of(noisy)) == pytest.approx(5, rel=0.04)
    assert np.median(np.abs(operator_of(noisy[..., 0]))) / 0.6745 > 5.4  # Immerkær's median over all pixels


def test_deep_images_lose_nothing_to_rounding():
    image = (60000 + 20 * white(3)).astype(np.uint16)
    assert noise_level(blocks_of(image)) == pytest.approx(20, rel=0.02)
    assert np.median(blocks_of(image).variance) == pytest.approx(400, rel=0.03)


def test_large_images_are_sampled_over_their_whole_height():
    rows = np.mgrid[:2000, :100][0][..., None]
    blocks = blocks_of(rows + white(4, rows.shape), max_pixels=50_000)
    assert 50_000 / 256 - 12 < len(blocks) < 50_000 / 256 + 12
    assert blocks.mean.min() < 100 < 1900 < blocks.mean.max()


# Blocks


def test_statistics_of_a_block():
    random = np.random.default_rng(5)
    image = random.normal(100, 10, (18, 18, 1))
    image[0, 0], image[-1, -1] = 0, 200  # the ends of the range, outside of the block
    (mean,), (variance,), (saturated,) = (getattr(blocks_of(image), name) for name in ("mean", "variance", "saturated"))
    block = image[1:-1, 1:-1, 0]
    design = np.stack([np.ones(256), *(axis.ravel() for axis in np.mgrid[:16, :16])], axis=1)
    _, (squares,), *_ = np.linalg.lstsq(design, block.ravel(), rcond=None)
    assert mean == pytest.approx(block.mean(), rel=1e-6)
    assert variance == pytest.approx(squares / 253, rel=0.03)  # the plane is fitted to means of 4×4 pixels
    assert saturated == 0


def test_saturated_blocks_are_used_only_if_there_are_few_others():
    def blocks(saturated):
        return Blocks(*[np.zeros(len(saturated))] * 5, saturated=np.array(saturated))

    assert len(blocks([0.0] * 30 + [0.5] * 70).usable()) == 30
    assert len(blocks([0.0] * 3 + [0.5] * 70 + [0.9] * 9).usable()) == 73
    assert len(blocks([1.0] * 9).usable()) == 0


# Autocorrelation


def test_white_noise_is_not_correlated():
    found = autocorrelation(blocks_of(scene(1) + 10 * white(1)))
    assert found.map[4, 4] == 1
    assert np.abs(np.delete(found.map, 40)).max() < 0.06
    assert np.array_equal(found.map, found.map[::-1, ::-1])


def test_map_of_correlated_noise():
    found = correlation_map(np.moveaxis(blurred(1), -1, 0))
    assert found[4, 4] == 1
    assert (found[4, 5], found[5, 4], found[3, 4]) == pytest.approx((0.5, 0.5, 0.5), abs=0.02)
    assert (found[5, 5], found[5, 3]) == pytest.approx((0.25, 0.25), abs=0.02)  # the product of both axes
    assert (found[4, 6], found[6, 4]) == pytest.approx((0, 0), abs=0.03)


def test_correlated_noise():
    """Blocks that vary little by chance are correlated a little less."""
    found = autocorrelation(blocks_of(scene(1) + 10 * blurred(1)))
    assert found.lag(1) == pytest.approx((0.45, 0.45), abs=0.08)
    assert found.lag(2) == pytest.approx((-0.05, -0.05), abs=0.08)
    assert abs(found.growth) < 0.1


def test_correlation_along_rows():
    noise = white(2, (HEIGHT, WIDTH + 1, 1))
    found = autocorrelation(blocks_of(scene(1) + 10 * (noise[:, 1:] + noise[:, :-1]) / 2**0.5))
    assert found.lag(1) == pytest.approx((0.5, 0), abs=0.05)


def test_no_autocorrelation_without_variance():
    assert autocorrelation(blocks_of(np.full((64, 64, 1), 7, np.uint8))) is None


# The curve


def sensor(clean, seed, gain=0.4, read_noise=3.0):
    random = np.random.default_rng(seed)
    return gain * random.poisson(clean / gain) + read_noise * random.standard_normal(clean.shape)


def test_curve_of_blocks():
    parts = [blocks_of(sensor(scene(seed, low=20, high=230), seed)) for seed in range(4)]
    columns = [np.concatenate([getattr(part, name) for part in parts]) for name in BlockSample.__dataclass_fields__]
    curve = curve_of_blocks(BlockSample(*columns))
    assert curve.gain == pytest.approx(0.4, rel=0.05)
    assert curve.read_noise == pytest.approx(3, rel=0.2)
    assert len(curve.level) >= 10


def test_curve_of_two_shots_is_exact():
    clean = scene(0, channels=3, low=20, high=230)
    curve = curve_of_differences(difference_bins(*(sensor(clean, seed).astype(np.float32) for seed in range(2))))
    assert curve.gain == pytest.approx(0.4, rel=0.02)
    assert curve.read_noise == pytest.approx(3, rel=0.05)


def test_a_flickering_lamp_is_no_noise():
    shots = [scene(0) + 5 * white(seed) for seed in range(2)]
    bins = difference_bins(*(shot.astype(np.float32) for shot in (shots[0], shots[1] + 8)))
    assert np.average(bins.variance, weights=bins.pixels) == pytest.approx(25, rel=0.02)


def test_line():
    level = np.linspace(10, 200, 12)
    assert fit_line(level, 0.5 * level + 4) == pytest.approx((0.5, 4))
    outlier = 0.5 * level + 4
    outlier[6] *= 5
    assert fit_line(level, outlier) == pytest.approx((0.5, 4), rel=0.02)
    assert fit_line(level, 100 - 0.2 * level)[0] == 0
    wobbling = 25 + np.tile([-1.0, 1.0], 6)
    assert fit_line(level, wobbling) == pytest.approx((0, 25), rel=0.01)


def test_a_negative_intercept_is_no_read_noise():
    level = np.linspace(30, 200, 12)
    curve = curve_of_differences(inspect_folder_module.DifferenceBins(level, 2 * (level - 20), np.full(12, 1000.0)))
    assert curve.intercept == pytest.approx(-40)
    assert curve.read_noise == 0


# Shifts


@pytest.mark.parametrize("shift", [(0, 0), (3, -2), (-40, 25)])
def test_shift_in_whole_pixels(shift):
    picture = np.random.default_rng(0).standard_normal((400, 400)).cumsum(0).cumsum(1)[50:-50, 50:-50]
    moved = np.roll(picture, shift, (0, 1))
    shots = [one[50:-50, 50:-50] + white(seed, (200, 200)) for seed, one in enumerate((picture, moved))]
    assert shift_between(*shots) == pytest.approx(shift, abs=0.05)


def test_shift_by_half_a_pixel():
    picture = scene(0)[..., 0] + 20 * blurred(0)[..., 0]
    half = (picture[1:] + picture[:-1]) / 2
    assert shift_between(picture[1:], half) == pytest.approx((0.5, 0), abs=0.1)


def test_shift_of_noise_is_not_known():
    assert shift_between(white(0)[..., 0], white(1)[..., 0]) is None


# Folders


def test_report_of_white_noise(white_folder):
    report = inspect_folder(white_folder)
    assert report.files == 4
    assert report.sigma.median == pytest.approx(10, rel=0.02)
    assert report.sigma.low <= report.sigma.median <= report.sigma.high
    assert report.deviation == pytest.approx(10, rel=0.15)  # of the flattest blocks
    assert report.lag1 == pytest.approx((0, 0), abs=0.05)
    assert report.curve.gain == 0
    assert report.curve.read_noise == pytest.approx(10, rel=0.02)
    assert (report.types, report.is_colour, report.kinds) == (("uint8",), False, {"PNG": 4})
    assert report.saturated < 0.001
    verdict = judge(report)
    assert (verdict.kind, verdict.is_correlated) == ("white", False)
    assert shlex.split(verdict.command)[3:] == ["--recipe", "photo", "--dataset", "CLEAN", "--sigma", "10"]


def test_report_of_correlated_noise(correlated_folder):
    report = inspect_folder(correlated_folder)
    verdict = judge(report)
    assert (verdict.kind, verdict.is_correlated) == ("correlated", True)
    assert f"{report.lag1[0]:.2f} in x" in verdict.sentences[0]
    assert report.deviation == pytest.approx(10, rel=0.2)
    assert report.sigma.median < 6  # and the verdict says so
    assert "too low" in " ".join(verdict.sentences)
    assert {"CLEAN", "--degrade"} <= set(shlex.split(verdict.command))


def test_jpeg_of_noise_is_correlated(tmp_path):
    images = [scene(seed, channels=3) + 6 * white(seed, (HEIGHT, WIDTH, 3)) for seed in range(3)]
    report = inspect_folder(write(tmp_path, images, "jpg", quality=75))
    assert report.jpegs == 3
    assert judge(report).kind == "correlated"
    assert "--channels 3" in judge(report).command


@pytest.mark.parametrize("channels", [1, 3])
def test_images_without_noise(tmp_path, channels):
    verdict = judge(inspect_folder(write(tmp_path, [scene(seed, channels) for seed in range(3)])))
    assert (verdict.kind, verdict.command) == ("little", None)


def test_detail_without_noise_is_not_called_noise(tmp_path):
    """Smooth surfaces next to texture of many strengths, rounded to 8 bits: the texture is correlated."""
    strength = np.linspace(0, 12, WIDTH) ** 2 / 12
    rough = [blurred(seed)[:, :, 0] for seed in range(3)]
    images = [scene(seed)[..., 0] + strength * one for seed, one in enumerate(rough)]
    assert judge(inspect_folder(write(tmp_path, images))).kind == "little"


def test_text_on_white_paper_is_not_called_noise(tmp_path):
    pages = []
    for seed in range(3):
        page = Image.new("L", (WIDTH, HEIGHT), 255)
        draw = ImageDraw.Draw(page)
        for line in range(0, HEIGHT, 12):
            draw.text((0, line), f"{seed * line} the quick brown fox jumps over the lazy dog " * 2, fill=0)
        pages.append(np.asarray(page))
    verdict = judge(inspect_folder(write(tmp_path / "clean", pages)))
    assert (verdict.kind, verdict.is_correlated) == ("unknown", False)
    paper = [np.full((HEIGHT, WIDTH, 1), 255.0)] * 3
    for name, noise, kind in (("white", white, "white"), ("blurred", blurred, "correlated")):
        noisy = [one + 12 * noise(seed) for seed, one in enumerate(paper)]
        assert judge(inspect_folder(write(tmp_path / name, noisy))).kind == kind


def test_sensor_noise(tmp_path):
    images = [sensor(scene(seed, low=20, high=230), seed) for seed in range(6)]
    report = inspect_folder(write(tmp_path, images))
    assert report.curve.gain == pytest.approx(0.4, rel=0.07)
    assert report.gain.low < 0.42
    words = shlex.split(judge(report).command)
    assert words[words.index("--noise") + 1] == "poisson_gaussian"
    assert float(words[words.index("--sigma") + 1]) == pytest.approx((0.4 * 255 + 9) ** 0.5, abs=1)


def test_commands_are_valid(white_folder, correlated_folder, tmp_path):
    write(tmp_path, [sensor(scene(seed, 3, 20, 230), seed) for seed in range(3)])
    commands = [judge(inspect_folder(folder)).command for folder in (white_folder, correlated_folder, tmp_path)]
    for command in commands:
        words = shlex.split(command)
        assert words[:3] == ["python", "-m", "keras_dae.train"]
        training_parser().parse_args(words[3:])
    assert len(set(commands)) == 3


def test_units_of_all_types_are_the_same(tmp_path):
    noisy = [(scene(seed) + 10 * white(seed)) / 255 for seed in range(3)]
    write(tmp_path / "uint8", [255 * image for image in noisy])
    for name, white_value, dtype in (("twelve", 4095, np.uint16), ("float", 1, np.float32)):
        (tmp_path / name).mkdir()
        for index, image in enumerate(noisy):
            values = image * white_value if white_value == 1 else np.rint(image * white_value)
            tifffile.imwrite(tmp_path / name / f"{index}.tif", values.clip(0, white_value).astype(dtype))
    reports = {name: inspect_folder(tmp_path / name) for name in ("uint8", "twelve", "float")}
    assert reports["twelve"].white == (4095, "uint16")
    for report in reports.values():
        assert report.sigma.median == pytest.approx(10, rel=0.02)
        assert report.curve.read_noise == pytest.approx(10, rel=0.03)
    assert reports["float"].levels is None
    shifted = tmp_path / "upper bits"
    shifted.mkdir()
    for path in (tmp_path / "twelve").iterdir():
        tifffile.imwrite(shifted / path.name, tifffile.imread(path) * 16)
    report = inspect_folder(shifted)
    assert report.sigma.median == pytest.approx(10, rel=0.02)
    assert report.levels == reports["twelve"].levels
    given = inspect_folder(tmp_path / "twelve", white="type")
    assert given.sigma.median == pytest.approx(10 / 16, rel=0.02)


def test_grey_images_stored_as_colour_are_grey(tmp_path, white_folder):
    write(tmp_path, [np.repeat(scene(seed) + 10 * white(seed), 3, axis=-1) for seed in range(4)])
    report, grey = inspect_folder(tmp_path), inspect_folder(white_folder)
    assert not report.is_colour
    assert report.sigma == grey.sigma


def test_copies_and_images_of_one_value_are_not_counted(tmp_path):
    images = [scene(seed) + 10 * white(seed) for seed in range(3)]
    write(tmp_path, [*images, images[0], images[0], 0 * images[0] + 9])
    report = inspect_folder(tmp_path)
    assert (report.files, report.copies, report.constant) == (3, 2, 1)


def test_limit_is_spread_over_the_folder(tmp_path):
    write(tmp_path, [scene(seed) + (3 if seed < 5 else 30) * white(seed) for seed in range(10)])
    report = inspect_folder(tmp_path, limit=2)
    assert report.files == 2
    assert report.sigma.low < 12 < 20 < report.sigma.high


def test_the_number_of_threads_changes_nothing(white_folder, monkeypatch):
    reports = []
    for count in (1, 3):
        monkeypatch.setattr(inspect_folder_module, "cores", lambda count=count: count)
        reports.append(inspect_folder(white_folder))
    for field in dataclasses.fields(reports[0]):
        first, second = (getattr(report, field.name) for report in reports)
        assert repr(first) == repr(second)


def test_small_images(tmp_path):
    """Digits of 28×28 pixels: one block each."""
    report = inspect_folder(write(tmp_path, [128 + 20 * white(seed, (28, 28, 1)) for seed in range(40)]))
    assert report.sigma.median == pytest.approx(20, rel=0.1)
    assert judge(report).kind == "white"


# Pairs of shots


@pytest.fixture
def shots(tmp_path):
    """Two folders with two shots of each of three scenes, with sensor noise."""
    clean = [scene(seed, low=90, high=190) + 20 * blurred(seed) for seed in range(3)]
    for number, name in enumerate(("first", "second")):
        write(tmp_path / name, [sensor(one, 10 * seed + number) for seed, one in enumerate(clean)])
    return tmp_path / "first", tmp_path / "second"


def test_two_shots(shots):
    report = inspect_folder(*shots)
    assert report.curve.gain == pytest.approx(0.4, rel=0.03)
    assert report.curve.read_noise == pytest.approx(3, rel=0.1)
    assert report.lag1 == pytest.approx((0, 0), abs=0.02)  # the scenes' detail is correlated, and cancels
    assert report.shifted == 0
    verdict = judge(report)
    assert verdict.kind == "white"
    words = shlex.split(verdict.command)
    assert (words[-4], words[-3:]) == ("--noisy-dir", [str(shots[0]), "--clean-dir", str(shots[1])])
    assert judge(inspect_folder(shots[0])).kind == "correlated"  # without the second shots


def test_shots_that_do_not_fit_are_skipped(shots):
    first, second = shots
    moved = Image.open(second / "0.png")
    moved.transform(moved.size, Image.Transform.AFFINE, (1, 0, 4, 0, 1, -3)).save(second / "0.png")
    Image.open(second / "1.png").crop((0, 0, 300, 200)).save(second / "1.png")
    report = inspect_folder(first, second)
    assert report.files == 1
    shift, size = report.skipped
    assert "expected two shots without a shift, got one of 4.0 pixels across and 3.0 down" in shift
    assert "expected two shots of one size and type, got 384×512×1 uint8 and 200×300×1 uint8" in size


def test_shots_shifted_by_a_pixel_are_reported(shots):
    for path in shots[1].iterdir():
        pixels = np.roll(np.asarray(Image.open(path)), 1, 1)
        Image.fromarray(pixels).save(path)
    report = inspect_folder(*shots)
    assert report.shifted == 3
    assert "3 of 3 pairs are shifted" in " ".join(judge(report).sentences)


# What cannot be measured


def test_unreadable_files_are_listed(tmp_path):
    write(tmp_path, [scene(seed) + 10 * white(seed) for seed in range(3)])
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    Image.new("L", (16, 40)).save(tmp_path / "small.png")
    report = inspect_folder(tmp_path)
    assert report.files == 3
    broken, small = report.skipped
    assert "broken.png: not a readable image" in broken
    assert "small.png: 40×16 pixels, smaller than 18×18" in small


def in_memory(image, **options):
    file = io.BytesIO()
    Image.fromarray(np.rint(image).clip(0, 255).astype(np.uint8).squeeze()).save(file, "PNG", **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ([], "expected images in .*, got none that can be measured; looked for .png"),
        ([b"", b""], "got none that can be measured; the first problem: .*0.png: not a readable image"),
        ([in_memory(np.zeros((40, 40)))] * 3, "got only images of one value, such as 0 in .*0.png"),
        ([in_memory(128 + 9 * white(0))] * 4, "expected different images in .*, got 4 equal ones"),
        ([in_memory(255 * (white(seed) > 0)) for seed in b"01"], "black or white almost everywhere"),
    ],
)
def test_folders_without_a_result(tmp_path, contents, message):
    for index, content in enumerate(contents):
        (tmp_path / f"{index}.png").write_bytes(content)
    with pytest.raises(UserError, match=message):
        inspect_folder(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"folder": "nowhere"}, "expected a folder of images, got nowhere, which is not there"),
        ({"folder": __file__}, "which is a file"),
        ({"folder": ".", "limit": 0}, "expected --limit of at least 1, got 0"),
        ({"folder": ".", "second_dir": "."}, "expected two folders, got . twice"),
    ],
)
def test_mistakes(arguments, message):
    with pytest.raises(UserError, match=message):
        inspect_folder(**arguments)


def test_pairs_without_a_result(shots, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"expected pairs of images in .*: no image of that name in"):
        inspect_folder(shots[0], tmp_path / "empty")
    for name, added, message in (("copy", 0, "got equal images"), ("brighter", 3, "equal but for their brightness")):
        (tmp_path / name).mkdir()
        for path in shots[0].iterdir():
            Image.fromarray(np.asarray(Image.open(path)).clip(0, 250) + np.uint8(added)).save(
                tmp_path / name / path.name
            )
        for path in shots[0].iterdir():
            Image.fromarray(np.asarray(Image.open(path)).clip(0, 250)).save(path)
        with pytest.raises(UserError, match=f"expected two different shots of one scene, .*{message}"):
            inspect_folder(shots[0], tmp_path / name)


def test_few_images(tmp_path):
    write(tmp_path, [scene(0) + 10 * white(0)])
    verdict = judge(inspect_folder(tmp_path))
    assert verdict.sentences[-1].startswith("This rests on 1 image.")
