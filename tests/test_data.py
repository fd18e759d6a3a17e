import numpy as np
import pytest
from conftest import smooth_picture
from PIL import Image

from keras_dae.config import TrainConfig
from keras_dae.data.batches import evaluation_images, training_batches
from keras_dae.data.load import load_dataset
from keras_dae.data.pairs import matched_pairs
from keras_dae.data.patches import PatchStream
from keras_dae.errors import UserError
from keras_dae.images.read import read_image
from keras_dae.images.unit_range import compact


def load(dataset, **options):
    return load_dataset(TrainConfig(dataset=str(dataset), **options))


def batches(dataset, batch_size=4, epoch=0):
    return list(dataset.train.batches(batch_size, seed=0, epoch=epoch))


class TestArrays:
    def test_npz_with_train_and_test(self, digits_npz, digits):
        dataset = load(digits_npz, validation_split=0.1)
        assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (72, 8, 20)
        assert np.array_equal(dataset.test.clean[..., 0], digits[:20])
        assert (dataset.name, dataset.train.dtype, dataset.train.shape[1:]) == ("tiny", np.uint8, (28, 28, 1))

    def test_split_is_disjoint_complete_and_by_seed(self, digits_npz, digits):
        def rows(images):
            return {image.tobytes() for image in images}

        first, again, other = (load(digits_npz, seed=seed) for seed in (0, 0, 1))
        assert not rows(first.train) & rows(first.validation.clean)
        assert rows(first.train) | rows(first.validation.clean) == rows(digits)
        assert np.array_equal(first.train, again.train)
        assert rows(first.train) != rows(other.train)
        assert np.array_equal(first.test.clean, other.test.clean)
        assert first.sha256 == other.sha256

    def test_one_array_is_split_for_testing(self, tmp_path, digits):
        np.save(tmp_path / "images.npy", digits)
        np.savez(tmp_path / "any.npz", whatever=digits)
        for name in ("images.npy", "any.npz"):
            dataset = load(tmp_path / name)
            assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (68, 4, 8)
            assert not {i.tobytes() for i in dataset.test.clean} & {i.tobytes() for i in dataset.train}

    def test_limit(self, digits_npz):
        dataset = load(digits_npz, limit=10)
        assert len(dataset.train) + len(dataset.validation) == 10
        assert len(dataset.test) == 10

    def test_large_images_become_patches(self, tmp_path):
        images = np.stack([smooth_picture(100, 130, seed, 1) for seed in range(20)])
        np.save(tmp_path / "images.npy", images)
        dataset = load(tmp_path / "images.npy")
        assert isinstance(dataset.train, PatchStream)
        assert dataset.train.patch_size == 64
        assert dataset.test.clean.shape[1:] == (64, 64, 1)
        ((clean,), *_) = batches(dataset)
        assert (clean.shape, clean.dtype) == ((4, 64, 64, 1), np.float32)
        assert 0.1 < clean.mean() < 0.9

    @pytest.mark.parametrize("is_divided", [False, True])
    def test_some_of_many_large_images_are_held_out_from_everywhere(self, is_divided, tmp_path):
        images = np.full((3000, 20, 24, 1), np.arange(3000)[:, None, None, None], np.uint16)
        arrays = {"x_train": images, "x_test": images} if is_divided else {"images": images}
        np.savez(tmp_path / "images.npz", **arrays)
        dataset = load(tmp_path / "images.npz", patch_size=20)
        expected = (200, 150, 2850) if is_divided else (200, 140, 2660)
        assert (len(dataset.test), len(dataset.validation), len(dataset.train.patch_counts)) == expected
        for held in (dataset.test, dataset.validation):
            rows = np.rint(held.clean[:, 0, 0, 0] * 4095)  # white, as measured
            assert len(set(rows)) == held.image_count == len(held)
            assert rows.min() < 100 and rows.max() > 2900

    def test_odd_sizes_become_patches_that_the_network_takes(self, tmp_path, digits):
        np.save(tmp_path / "images.npy", np.pad(digits, ((0, 0), (1, 1), (0, 3))))
        assert load(tmp_path / "images.npy").train.patch_size == 28

    def test_whole_rectangles_stay_whole(self, tmp_path, digits):
        np.save(tmp_path / "images.npy", np.pad(digits, ((0, 0), (0, 0), (2, 2))))
        assert load(tmp_path / "images.npy").train.shape[1:] == (28, 32, 1)

    @pytest.mark.parametrize(
        ("scale", "dtype"), [(1, np.uint8), (257, np.uint16), (1 / 255, np.float32), (1 / 255, np.float64)]
    )
    def test_types(self, tmp_path, digits, scale, dtype):
        np.save(tmp_path / "images.npy", (digits.astype(float) * scale).astype(dtype))
        clean = load(tmp_path / "images.npy").test.clean
        expected = load_reference(tmp_path, digits)
        np.testing.assert_allclose(clean / (255 if clean.dtype == np.uint8 else 1), expected / 255, atol=1e-6)

    @pytest.mark.parametrize(
        ("images", "expected"),
        [
            (np.zeros((10, 28, 28), np.float32) + 200, r"\[0, 1\], got 200"),
            (np.full((10, 28, 28), np.nan), "NaN"),
            (np.zeros((10, 28, 28), np.int64), "int64"),
            (np.zeros((10, 28)), r"\(10, 28\)"),
            (np.zeros((10, 28, 28, 3), np.uint8), r"\(10, 28, 28, 3\)"),
            (np.zeros((2, 10, 28, 28, 1), np.uint8), r"\(2, 10, 28, 28, 1\)"),
            (np.arange(4480, dtype=np.uint16).reshape(10, 16, 28), "at least 20×20"),
            (np.zeros((0, 28, 28), np.uint8), "at least 3 different images .* got 0 among 0"),
            (np.zeros((10, 28, 28), np.uint8), "at least 3 different images .* got 1 among 10"),
            (np.array([{}]), "cannot read"),
        ],
    )
    def test_unusable_array(self, tmp_path, images, expected):
        np.save(tmp_path / "images.npy", images)
        with pytest.raises(UserError, match=expected):
            load(tmp_path / "images.npy")

    @pytest.mark.parametrize("content", [b"", b"not numpy", b"PK\x03\x04"])
    @pytest.mark.parametrize("name", ["images.npy", "images.npz"])
    def test_damaged_file(self, tmp_path, name, content):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match="cannot read"):
            load(tmp_path / name)

    def test_content_counts_not_the_ending(self, tmp_path, digits):
        np.savez(tmp_path / "zip.npz", digits)
        np.save(tmp_path / "plain.npy", digits)
        (tmp_path / "zip.npz").rename(tmp_path / "zip.npy")
        (tmp_path / "plain.npy").rename(tmp_path / "plain.npz")
        for name in ("zip.npy", "plain.npz"):
            assert len(load(tmp_path / name).train) == 68

    def test_flipped_bits_in_compressed_data(self, tmp_path, digits):
        np.savez_compressed(tmp_path / "images.npz", digits)
        content = bytearray((tmp_path / "images.npz").read_bytes())
        content[len(content) // 2 : len(content) // 2 + 40] = b"\xff" * 40
        (tmp_path / "images.npz").write_bytes(content)
        with pytest.raises(UserError, match="cannot read"):
            load(tmp_path / "images.npz")

    def test_npz_with_unclear_arrays(self, tmp_path, digits):
        np.savez(tmp_path / "two.npz", a=digits, b=digits)
        with pytest.raises(UserError, match="got a, b"):
            load(tmp_path / "two.npz")

    def test_nothing_of_that_name(self, tmp_path):
        with pytest.raises(UserError, match="none of them"):
            load(tmp_path / "nowhere")

    def test_grey_data_set_in_colour(self):
        with pytest.raises(UserError, match="--channels 1"):
            load("digits", channels=3)


def load_reference(tmp_path, digits):
    np.save(tmp_path / "reference.npy", digits)
    return load(tmp_path / "reference.npy").test.clean


class TestFolder:
    @pytest.mark.parametrize("channels", [1, 3])
    def test_mixed_sizes_formats_and_subfolders(self, photographs, channels):
        dataset = load(photographs, channels=channels)
        assert (dataset.name, dataset.skipped) == ("photographs", ())
        assert dataset.train.patch_size == 40
        ((clean,), *_) = batches(dataset)
        assert clean.shape == (4, 40, 40, channels)
        assert dataset.test.clean.shape[1:] == (40, 40, channels)
        assert dataset.test.clean.dtype == np.uint8

    def test_patch_size_can_be_chosen(self, photographs):
        dataset = load(photographs, patch_size=20, patches_per_image=3)
        assert set(dataset.train.patch_counts) == {3}
        assert batches(dataset)[0][0].shape == (4, 20, 20, 1)

    def test_unusable_files_are_skipped_by_name(self, photographs, capsys):
        (photographs / "cut.png").write_bytes((photographs / "picture0.png").read_bytes()[:300])
        (photographs / "text\n.png").write_text("not an image")
        (photographs / "empty.jpg").write_bytes(b"")
        (photographs / "dangling.tif").symlink_to("nowhere")
        (photographs / "notes.txt").write_text("not looked at")
        Image.new("L", (19, 300)).save(photographs / "narrow.png")
        dataset = load(photographs, patch_size=40)
        named = "".join(dataset.skipped)
        assert len(dataset.skipped) == 5
        assert all(name in named for name in ("cut.png", "text\n.png", "empty.jpg", "dangling.tif", "narrow.png"))
        printed = capsys.readouterr().err
        assert "skipped 5 files" in printed
        assert "text\\n.png" in printed
        assert len(batches(dataset)) > 0

    def test_nothing_usable(self, tmp_path):
        with pytest.raises(UserError, match="at least 3 usable images"):
            load(tmp_path)
        for index in range(5):
            (tmp_path / f"{index}.png").write_bytes(b"no image")
        with pytest.raises(UserError, match=r"got 0 of 5.*0\.png"):
            load(tmp_path)

    def test_links_in_a_circle(self, photographs):
        (photographs / "circle").symlink_to(photographs)
        assert len(load(photographs).train.patch_counts) == 10  # of 12, one is for testing and one for validation

    def test_test_images_do_not_depend_on_the_seed(self, photographs):
        first, second = load(photographs, seed=0), load(photographs, seed=1)
        assert np.array_equal(first.test.clean, second.test.clean)
        assert first.sha256 == second.sha256

    def test_small_images_are_used_whole(self, tmp_path, digits):
        for index, image in enumerate(digits):
            Image.fromarray(image).save(tmp_path / f"{index}.png")
        dataset = load(tmp_path)
        assert dataset.train.patch_size == 28
        got = {image.tobytes() for (batch,) in batches(dataset, 1) for image in np.uint8(np.rint(batch * 255))}
        assert got < {image.tobytes() for image in digits}
        assert len(got) == len(dataset.train)

    def test_16_bit_and_8_bit_together(self, tmp_path):
        for index in range(10):
            picture = smooth_picture(40, 40, index, 1)[..., 0]
            deep = index % 2
            Image.fromarray(picture.astype(np.uint16) * 257 if deep else picture).save(tmp_path / f"{index}.png")
        dataset = load(tmp_path)
        for (clean,) in batches(dataset, 1):
            assert 0.2 < clean.mean() < 0.8

    def test_limit(self, photographs):
        assert len(load(photographs, limit=5).train.patch_counts) == 4

    def test_what_is_for_testing_is_never_trained_on(self, tmp_path):
        """That holds for every limit and patch size, which leave out images. Here each image has another grey level."""
        for level in range(40):
            Image.new("L", (60 + level, 60), level).save(tmp_path / f"{level}.png")
        Image.new("L", (30, 30), 99).save(tmp_path / "0small.png")
        held = set(np.unique(load(tmp_path, patch_size=20).test.clean))
        assert held
        for options in ({"limit": 20}, {"patch_size": 60}, {"seed": 1}, {"patches_per_image": 1}):
            dataset = load(tmp_path, **options)
            assert set(np.unique(dataset.test.clean)) <= held
            trained = {dataset.train.read(index)[0][0, 0, 0] for index in range(len(dataset.train.patch_counts))}
            assert trained and not trained & held
            counts = (dataset.test.image_count, dataset.test.patch_count)
            assert counts == (len(set(dataset.test.image_index)), len(dataset.test))

    def test_images_that_are_too_small_are_never_the_only_ones_to_test_with(self, tmp_path):
        for level in range(8):
            Image.new("L", (40, 40), level).save(tmp_path / f"{level}.png")
        (level,) = np.unique(load(tmp_path, patch_size=20).test.clean)
        Image.new("L", (24, 24), int(level)).save(tmp_path / f"{level}.png")
        assert load(tmp_path, patch_size=28).test.image_count == 1


@pytest.fixture
def pairs(tmp_path):
    """Folders of 12 noisy JPEG and clean PNG pictures of the same names."""
    for folder in ("noisy/sub", "clean/sub"):
        (tmp_path / folder).mkdir(parents=True)
    for index in range(12):
        clean = smooth_picture(48, 48, index, 1)[..., 0]
        Image.fromarray(clean).save(tmp_path / f"clean/sub/{index}.png")
        Image.fromarray(clean // 2).save(tmp_path / f"noisy/sub/{index}.bmp")
    return {"noisy_dir": str(tmp_path / "noisy"), "clean_dir": str(tmp_path / "clean")}


class TestPairs:
    def test_are_matched_by_name_and_cut_at_the_same_places(self, pairs):
        dataset = load_dataset(TrainConfig(**pairs, patch_size=20))
        assert dataset.name == "noisy-pairs"
        for clean, noisy in batches(dataset):
            assert np.array_equal(np.rint(255 * clean) // 2, np.rint(255 * noisy))
        for held in (dataset.test, dataset.validation):
            assert np.array_equal(held.clean // 2, held.noisy)
            noisy, clean = evaluation_images(held, TrainConfig(**pairs))
            assert np.array_equal(np.rint(255 * clean), held.clean)
            assert np.array_equal(np.rint(255 * noisy), held.clean // 2)
        noisy, clean = next(iter(training_batches(dataset.train, TrainConfig(**pairs, batch_size=4))))
        assert clean.numpy().mean() > 1.8 * noisy.numpy().mean()  # the input, and the target

    def test_files_without_partner_or_of_another_size_are_skipped_by_name(self, pairs, tmp_path):
        Image.new("L", (48, 48)).save(tmp_path / "noisy/alone.png")
        Image.new("L", (48, 48)).save(tmp_path / "clean/lonely.png")
        Image.new("L", (48, 52)).save(tmp_path / "noisy/sub/3.bmp")
        skipped = load_dataset(TrainConfig(**pairs)).skipped
        assert len(skipped) == 3
        assert all(any(name in reason for reason in skipped) for name in ("alone.png", "lonely.png", "3.bmp"))

    def test_the_same_ending_goes_before_the_same_stem(self, pairs, tmp_path):
        for folder in ("clean", "noisy"):
            for name, level in (("x.png", 10), ("x.jpg", 200)):
                Image.new("L", (48, 48), level).save(tmp_path / folder / name)
        Image.new("L", (48, 48)).save(tmp_path / "clean/y.png")
        for name in ("y.bmp", "y.tif"):
            Image.new("L", (48, 48)).save(tmp_path / "noisy" / name)
        files, others = matched_pairs(pairs["noisy_dir"], pairs["clean_dir"])
        assert len(files) == 12 + 2
        assert all(clean.suffix == noisy.suffix for clean, noisy in files if clean.stem == "x")
        assert [clean.name for clean, _ in files if clean.stem == "x"] == ["x.jpg", "x.png"]  # on every run
        assert len(others) == 3
        assert all("several images have this name" in reason for reason in others if "noisy/y" not in reason)

    def test_one_folder_is_not_enough(self, pairs):
        with pytest.raises(UserError, match="together"):
            TrainConfig(noisy_dir=pairs["noisy_dir"])

    def test_nothing_matches(self, pairs, tmp_path):
        (tmp_path / "empty").mkdir()
        with pytest.raises(UserError, match="at least 3 usable"):
            load_dataset(TrainConfig(noisy_dir=pairs["noisy_dir"], clean_dir=str(tmp_path / "empty")))

    def test_missing_folder(self, pairs):
        with pytest.raises(UserError, match="/nowhere"):
            load_dataset(TrainConfig(noisy_dir="/nowhere", clean_dir=pairs["clean_dir"]))


GREY = np.arange(40 * 30, dtype=np.float64).reshape(40, 30) / 1200


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("grey.png", Image.fromarray(np.uint8(GREY * 255))),
        ("alpha.png", Image.fromarray(np.uint8(np.dstack([GREY, GREY * 0 + 1]) * 255))),
        ("palette.png", Image.fromarray(np.uint8(GREY * 255)).convert("P")),
        ("rgb.bmp", Image.fromarray(np.uint8(np.dstack([GREY] * 3) * 255))),
        ("rgba.png", Image.fromarray(np.uint8(np.dstack([GREY] * 3 + [GREY * 0 + 1]) * 255))),
        ("deep.png", Image.fromarray(np.uint16(GREY * 65535))),
        ("deep.tif", Image.fromarray(np.uint16(GREY * 65535))),
        ("float.tif", Image.fromarray(np.float32(GREY))),
        ("int.tif", Image.fromarray(np.int32(GREY * 65535))),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_read_image(tmp_path, name, image, channels):
    image.save(tmp_path / name)
    values = read_image(tmp_path / name, channels)
    assert values.shape == (40, 30, channels)
    scale = 1 if values.dtype == np.float32 else np.iinfo(values.dtype).max
    np.testing.assert_allclose(values / scale, np.repeat(GREY[..., None], channels, -1), atol=1.1 / 255)


def test_black_and_white_is_0_and_255(tmp_path):
    Image.fromarray(GREY > 0.5).save(tmp_path / "bits.png")
    assert np.array_equal(read_image(tmp_path / "bits.png", 1)[..., 0], np.where(GREY > 0.5, 255, 0))


def test_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90° clockwise
    Image.fromarray(np.uint8(GREY * 255)).save(tmp_path / "turned.png", exif=exif)
    values = read_image(tmp_path / "turned.png", 1)[..., 0]
    assert np.array_equal(values, np.rot90(np.uint8(GREY * 255), -1))


@pytest.mark.parametrize("values", [np.float32([[2]]), np.float32([[-0.1]]), np.float32([[np.inf]]), np.int8([[1]])])
def test_values_out_of_range(values):
    with pytest.raises(ValueError, match="expected"):
        compact(values)
