"""Folders of images: which side of the split an image is on follows from its content, also when the folder grows."""

import hashlib
import shutil

import numpy as np
import pytest
from PIL import Image

from keras_dae.config import TrainConfig
from keras_dae.data.hash_split import content_values, smallest_values
from keras_dae.data.load import load_dataset
from keras_dae.errors import UserError


def save(folder, levels, suffix=".bmp"):
    """Save images that can be told apart by their grey level. The bytes of a BMP are the same everywhere."""
    folder.mkdir(parents=True, exist_ok=True)
    for level in levels:
        Image.new("L", (24, 24), level).save(folder / f"{level}{suffix}")
    return folder


def load(folder, **options):
    return load_dataset(TrainConfig(dataset=str(folder), patch_size=20, **options))


def sides(dataset):
    """Return `split -> set of names` of the images of a dataset."""
    return {
        split: {image.name for image in dataset.list_images() if image.split == split}
        for split in ("train", "validation", "test", "unused")
    }


def trained_levels(dataset):
    return {int(dataset.train.read(index)[0].flat[0]) for index in range(len(dataset.train.patch_counts))}


def test_the_split_is_as_documented(tmp_path):
    """SHA-256 of the salt and the file's SHA-256; the first eight bytes are compared with the fraction."""
    dataset = load(save(tmp_path, range(100)))
    expected = set()
    for file in tmp_path.iterdir():
        digest = hashlib.sha256(f"test {hashlib.sha256(file.read_bytes()).hexdigest()}".encode()).digest()
        if int.from_bytes(digest[:8], "big") / 2**64 < 0.1:
            expected.add(int(file.stem))
    assert 3 <= len(expected) <= 20
    assert set(np.unique(dataset.test.clean)) == expected
    assert not trained_levels(dataset) & (expected | set(np.unique(dataset.validation.clean)))
    assert {f"{level}.bmp" for level in expected} == sides(dataset)["test"]


def test_a_folder_may_grow(tmp_path):
    small = sides(load(save(tmp_path, range(40))))
    large = sides(load(save(tmp_path, range(200))))
    assert small["test"]
    assert small["test"] <= large["test"]
    assert not large["test"] & (small["train"] | small["validation"])


def test_neither_name_nor_place_nor_time_matters(tmp_path):
    first = load(save(tmp_path / "a", range(40)))
    for level in range(40):
        shutil.copy(tmp_path / f"a/{level}.bmp", save(tmp_path / "b/c", []) / f"{39 - level:03}.BMP")
    second = load(tmp_path / "b")
    assert set(np.unique(first.test.clean)) == set(np.unique(second.test.clean))


def test_the_rest_is_divided_by_seed_and_content(tmp_path):
    save(tmp_path, range(150))
    first, again, other = (sides(load(tmp_path, seed=seed, validation_split=0.2)) for seed in (0, 0, 1))
    assert first == again
    assert first["test"] == other["test"]
    assert first["validation"] != other["validation"]
    assert 10 < len(first["validation"]) < 50
    grown = sides(load(save(tmp_path, range(200)), validation_split=0.2))
    assert first["validation"] <= grown["validation"]


def test_small_folders_hold_at_least_one_of_each(tmp_path):
    for count in (3, 4, 7):
        split = sides(load(save(tmp_path / str(count), range(count))))
        assert all(split[side] for side in ("train", "validation", "test"))
        assert not split["unused"]


def test_too_few_different_images(tmp_path):
    for name in "abcdef":
        Image.new("L", (24, 24), 7 if name < "e" else 9).save(tmp_path / f"{name}.bmp")
    with pytest.raises(UserError, match="at least 3 different images, got 2"):
        load(tmp_path)


def test_images_over_the_cap_are_never_trained_on(tmp_path, monkeypatch):
    everything = sides(load(save(tmp_path, range(200))))
    monkeypatch.setattr("keras_dae.data.image_folder.MAX_HELD_OUT", 5)
    capped = sides(load(tmp_path))
    assert len(capped["test"]) == 5
    assert capped["test"] | capped["unused"] == everything["test"]
    assert len(capped["validation"]) <= 5


@pytest.mark.parametrize("copy", ["the same bytes", "the same pixels"])
def test_equal_images_are_on_one_side(tmp_path, copy, capsys):
    save(tmp_path, range(60))
    for level in range(60):
        for number in range(3):
            target = tmp_path / f"copies/{number}-{level}"
            target.parent.mkdir(exist_ok=True)
            if copy == "the same bytes":
                shutil.copy(tmp_path / f"{level}.bmp", f"{target}.bmp")
            else:
                Image.new("L", (24, 24), level).save(f"{target}.png", compress_level=number)
    dataset = load(tmp_path)
    printed = capsys.readouterr().err
    assert "60 of 240 clean images are different; equal ones are never on both sides of a split\n" in printed
    trained, validated, tested = (
        trained_levels(dataset),
        set(np.unique(dataset.validation.clean)),
        set(np.unique(dataset.test.clean)),
    )
    assert len(trained) + len(validated) + len(tested) == 60
    assert not trained & validated and not trained & tested and not validated & tested


def test_an_equal_image_that_is_added_moves_nothing_out_of_the_test(tmp_path):
    tested = sides(load(save(tmp_path, range(60))))["test"]
    for level in range(60):
        Image.new("L", (24, 24), level).save(tmp_path / f"{level}.png")
    assert tested <= sides(load(tmp_path))["test"]


def test_pairs_with_the_same_clean_image_are_on_one_side(tmp_path, capsys):
    """As in scans of one page on several backgrounds."""
    for page in range(24):
        for background in range(4):
            name = f"{background}{page}.png"
            for folder in ("clean", "noisy"):
                (tmp_path / folder).mkdir(exist_ok=True)
            Image.new("L", (24, 24), page).save(tmp_path / "clean" / name, compress_level=background)
            Image.new("L", (24, 24), 100 + 4 * page + background).save(tmp_path / "noisy" / name)
    config = TrainConfig(noisy_dir=str(tmp_path / "noisy"), clean_dir=str(tmp_path / "clean"), patch_size=20)
    dataset = load_dataset(config)
    assert "24 of 96 clean images are different" in capsys.readouterr().err
    trained, tested = trained_levels(dataset), set(np.unique(dataset.test.clean))
    assert tested and not trained & tested and not trained & set(np.unique(dataset.validation.clean))
    assert dataset.test.image_count == 4 * len(tested)


def test_what_systems_add_changes_nothing(tmp_path, capsys):
    before = load(save(tmp_path, range(30)))
    capsys.readouterr()
    for place in (".ipynb_checkpoints", "@eaDir", "__MACOSX/deep", ".Trash-0/files"):
        save(tmp_path / place, range(30))
    (tmp_path / "._3.bmp").write_bytes(b"\0\5\x16\7")
    after = load(tmp_path)
    assert (after.sha256, sides(after), after.skipped) == (before.sha256, sides(before), ())
    assert capsys.readouterr().err == ""


def test_content_values_join_all_that_is_equal():
    """The third image joins the first two, which have nothing in common."""
    values = content_values([("a", "1"), ("b", "2"), ("c", "1"), ("b", "1"), ("d", "4")], "salt")
    assert len(set(values[:4])) == 1
    assert values[4] != values[0]
    alone = content_values([(name, name) for name in "abcd"], "salt")
    assert values[0] == min(alone[:3])
    assert values[4] == alone[3] != content_values([("d", "d")], "pepper")[0]


def test_smallest_values_hold_out_whole_groups():
    values = np.array([5, 5, 5, 2**62, 2**63], np.uint64)
    assert smallest_values(values, 1e-9).tolist() == [True, True, True, False, False]
    assert smallest_values(values, 0.3, max_held_out=3).tolist() == [True, True, True, False, False]
    assert smallest_values(values, 0.99, min_kept=2).tolist() == [True, True, True, False, False]
    assert smallest_values(values, 0.99).tolist() == [True, True, True, True, False]
    with pytest.raises(UserError, match="at least 4 different images, got 3"):
        smallest_values(values, 0.5, min_kept=3)


class TestSplitByCount:
    """The rule of keras_dae 0.1.0, which config.json files of format 1 name."""

    def test_is_as_it_was(self, tmp_path):
        """A literal from keras_dae 0.1.0, with a hidden file, which it took, and a .jfif, which it did not."""
        for index in range(30):
            pixels = np.arange(24 * (24 + index)).reshape(24, -1) * (index + 1) % 251
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"{index:02}.bmp")
        save(tmp_path / ".hidden", [9])
        (tmp_path / "x.jfif").write_bytes((tmp_path / "03.bmp").read_bytes())
        dataset = load(tmp_path, split="count")
        assert sides(dataset)["test"] == {"00.bmp", "01.bmp", "02.bmp"}
        assert sides(dataset)["validation"] == {"05.bmp"}
        assert dataset.sha256 == "30df4bc3e6afb175d8f6db581dff8a502222c573fa63fd1e8bd518b77c4ead20"

    def test_pairs_are_hashed_as_they_were(self, tmp_path):
        for folder in ("clean", "noisy"):
            save(tmp_path / folder, range(8))
        config = TrainConfig(
            noisy_dir=str(tmp_path / "noisy"), clean_dir=str(tmp_path / "clean"), patch_size=20, split="count"
        )
        sha256 = hashlib.sha256()
        for level in range(8):
            sha256.update(hashlib.sha256(bytes([level]) * (2 * 24 * 24)).digest())
        assert load_dataset(config).sha256 == sha256.hexdigest()
