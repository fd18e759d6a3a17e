"""A run is never measured on what it was trained on, whatever the path. Here runs are folders without a model."""

import csv
import hashlib
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from keras_dae.config import TrainConfig
from keras_dae.data.load import load_dataset
from keras_dae.data.splits import held_out_split
from keras_dae.errors import UserError
from keras_dae.evaluate.trained_runs import check_unseen, evaluation_config
from keras_dae.runs.folder import load_config
from keras_dae.runs.image_list import read_image_hashes
from keras_dae.runs.partial_run import prepare_partial_run


def save(folder, levels):
    folder.mkdir(parents=True, exist_ok=True)
    for level in levels:
        Image.new("L", (24, 24), level).save(folder / f"{level}.bmp")
    return folder


def trained(run, **options):
    """Return a run folder with the files that tell what it was trained on."""
    config = TrainConfig(**{name: str(value) for name, value in options.items()})
    prepare_partial_run(run, config, load_dataset(config), overwrite=False)
    return run


def names(run, *splits):
    with open(run / "images.csv", newline="") as file:
        return [row["name"] for row in csv.DictReader(file) if row["split"] in splits]


def measured(run, **overrides):
    """Return the test images that `evaluate` would take, after its check."""
    config = evaluation_config(run, {name: str(value) for name, value in overrides.items()})
    dataset = load_dataset(config)
    check_unseen(run, config, dataset)
    return dataset.test


@pytest.fixture
def run(tmp_path):
    return trained(tmp_path / "run", dataset=save(tmp_path / "images", range(60)))


@pytest.fixture
def learned(run, tmp_path):
    """A folder of nothing but images that the run was trained on."""
    for number, name in enumerate(names(run, "train", "validation")):
        (tmp_path / "learned").mkdir(exist_ok=True)
        shutil.copy(tmp_path / "images" / name, tmp_path / f"learned/renamed{number}.bmp")
    return tmp_path / "learned"


def test_the_list_of_a_run(run, tmp_path):
    with open(run / "images.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["split", "name", "sha256", "pixels"]
    assert len(rows) == 60
    for row in rows:
        assert row["sha256"] == hashlib.sha256((tmp_path / "images" / row["name"]).read_bytes()).hexdigest()
    about = json.loads((run / "config.json").read_text())["dataset"]
    for split, count in (("train", "training"), ("validation", "validation"), ("test", "test")):
        assert len(names(run, split)) == about[f"{count}_images"]


def test_its_own_test_images_are_measured(run, tmp_path):
    own = {int(name.split(".")[0]) for name in names(run, "test")}
    for overrides in ({}, {"dataset": tmp_path / "images"}):
        assert set(np.unique(measured(run, **overrides).clean)) == own


def test_test_images_that_have_changed_are_noticed(run, tmp_path, capsys):
    measured(run)
    assert capsys.readouterr().err == ""
    (tmp_path / "images" / names(run, "test")[0]).unlink()
    measured(run)
    assert f"test images in images are gone since {run} was trained" in capsys.readouterr().err
    save(tmp_path / "images", range(100, 160))
    count = measured(run).image_count
    added = count - len(names(run, "test")) + 1
    assert f"{added} of the {count} test images in images are new since {run} was" in capsys.readouterr().err
    measured(run, dataset=save(tmp_path / "others", range(200, 240)))
    assert capsys.readouterr().err == ""


def test_from_another_working_folder(tmp_path, monkeypatch):
    save(tmp_path / "here/images", range(30))
    monkeypatch.chdir(tmp_path / "here")
    run = trained(tmp_path / "here/run", dataset="images")
    expected = measured(run).clean
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert np.array_equal(measured(run).clean, expected)
    assert load_config(run / "config.json").dataset == str(tmp_path / "here/images")
    monkeypatch.chdir(tmp_path)
    assert load_config("here/run/config.json").differences(TrainConfig(dataset="here/images")) == []


@pytest.mark.parametrize("way", ["a copy under other names", "a link", "links to files", "another format"])
def test_what_it_learned_from_is_refused(run, learned, tmp_path, way):
    place = tmp_path / "place"
    if way == "a link":
        place.symlink_to(learned)
    elif way == "a copy under other names":
        place = learned
    else:
        place.mkdir()
        for path in learned.iterdir():
            if way == "links to files":
                (place / path.name).symlink_to(path)
            else:
                Image.open(path).save(place / f"{path.stem}.png")
    config = TrainConfig(dataset=str(place))
    count = load_dataset(config).test.image_count
    expected = f"^{count} of the {count} test images in {place.resolve().name} were used to train {run}; choose images"
    with pytest.raises(UserError, match=expected):
        measured(run, dataset=place)


@pytest.mark.parametrize("dtype", ["uint16", "float32", "float64"])
def test_what_it_learned_from_is_refused_in_more_bits(run, learned, tmp_path, dtype):
    """An image that was only stored with more bits is the same image."""
    images = [np.asarray(Image.open(path)) for path in sorted(learned.iterdir())]
    scale = 257 if dtype == "uint16" else np.dtype(dtype).type(1 / 255)
    deep = np.stack([image.astype(dtype) * scale for image in images])
    np.save(tmp_path / "deep.npy", deep)
    with pytest.raises(UserError, match="were used to train"):
        measured(run, dataset=tmp_path / "deep.npy", white="type")


def test_some_that_it_learned_from_among_others(run, learned, tmp_path):
    """Of these, only some are for testing; the refusal counts those."""
    for level in range(100, 160):
        shutil.copy(save(tmp_path / "more", [level]) / f"{level}.bmp", learned)
    seen = {hashlib.sha256(path.read_bytes()).hexdigest() for path in learned.glob("renamed*")}
    tested = [image for image in load_dataset(TrainConfig(dataset=str(learned))).list_images() if image.split == "test"]
    count = sum(image.sha256 in seen for image in tested)
    if count:
        with pytest.raises(UserError, match=f"^{count} of the {len(tested)} test images"):
            measured(run, dataset=learned)
    else:  # content decides: what was for training there is for training here
        assert measured(run, dataset=learned).image_count == len(tested)


def test_a_folder_that_has_grown_is_measured(run, tmp_path):
    own = set(np.unique(measured(run).clean))
    save(tmp_path / "images", range(60, 200))
    grown = set(np.unique(measured(run).clean))
    assert own < grown
    assert not grown & {int(name.split(".")[0]) for name in names(run, "train", "validation")}


def test_touched_or_moved_images_are_the_same(run, tmp_path):
    expected = measured(run).clean
    (tmp_path / "images").rename(tmp_path / "moved")
    assert np.array_equal(measured(run, dataset=tmp_path / "moved").clean, expected)


class TestPairs:
    @pytest.fixture
    def run(self, tmp_path):
        save(tmp_path / "clean", range(60))
        for level in range(60):
            (tmp_path / "noisy").mkdir(exist_ok=True)
            Image.new("L", (24, 24), 100 + level).save(tmp_path / f"noisy/{level}.bmp")
        return trained(tmp_path / "run", noisy_dir=tmp_path / "noisy", clean_dir=tmp_path / "clean")

    def test_list(self, run, tmp_path):
        with open(run / "images.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == 60
        for row in rows:
            for prefix, folder in (("", "clean"), ("noisy_", "noisy")):
                content = (tmp_path / folder / row[f"{prefix}name"]).read_bytes()
                assert row[f"{prefix}sha256"] == hashlib.sha256(content).hexdigest()
        assert len(read_image_hashes(run)["train"]) == 4 * len(names(run, "train"))

    @pytest.mark.parametrize("side", ["clean", "noisy"])
    def test_either_side_alone(self, run, tmp_path, side):
        for name in names(run, "train", "validation"):
            (tmp_path / "learned").mkdir(exist_ok=True)
            shutil.copy(tmp_path / side / name, tmp_path / "learned")
        with pytest.raises(UserError, match="were used to train"):
            measured(run, dataset=tmp_path / "learned")

    def test_through_other_folders(self, run, tmp_path):
        """The same pairs, but with only those to choose from that it was trained on."""
        for folder in ("clean", "noisy"):
            (tmp_path / f"other/{folder}").mkdir(parents=True)
            for name in names(run, "train", "validation"):
                shutil.copy(tmp_path / folder / name, tmp_path / f"other/{folder}/{name}")
        places = {f"{folder}_dir": tmp_path / f"other/{folder}" for folder in ("clean", "noisy")}
        with pytest.raises(UserError, match="were used to train"):
            measured(run, **places)

    def test_its_own(self, run, tmp_path):
        assert measured(run).image_count == len(names(run, "test"))
        places = {f"{folder}_dir": tmp_path / folder for folder in ("clean", "noisy")}
        assert measured(run, **places).image_count == len(names(run, "test"))


class TestArrays:
    @pytest.fixture
    def run(self, tmp_path, digits):
        np.save(tmp_path / "images.npy", digits)
        return trained(tmp_path / "run", dataset=tmp_path / "images.npy")

    def test_its_own_and_a_copy(self, run, tmp_path):
        expected = measured(run).clean
        shutil.copy(tmp_path / "images.npy", tmp_path / "copy.npy")
        assert np.array_equal(measured(run, dataset=tmp_path / "copy.npy").clean, expected)

    def test_a_part_of_it(self, run, tmp_path, digits):
        rows = [int(name) for name in names(run, "train", "validation")]
        np.savez(tmp_path / "part.npz", x_train=digits, x_test=digits[rows[:7]])
        with pytest.raises(UserError, match=r"^7 of the 7 test images in part were used to train"):
            measured(run, dataset=tmp_path / "part.npz")

    def test_new_images(self, run, tmp_path, digits):
        np.savez(tmp_path / "new.npz", x_train=digits, x_test=255 - digits[:5])
        assert len(measured(run, dataset=tmp_path / "new.npz")) == 5

    def test_equal_rows_are_on_one_side(self, tmp_path, digits, capsys):
        np.save(tmp_path / "twice.npy", np.concatenate([digits, digits]))
        dataset = load_dataset(TrainConfig(dataset=str(tmp_path / "twice.npy")))
        rows = [{image.tobytes() for image in images} for images in (dataset.train, dataset.validation.clean)]
        tested = {image.tobytes() for image in dataset.test.clean}
        assert rows[0] and not rows[0] & tested and not rows[1] & tested and not rows[0] & rows[1]
        lines = [line for line in capsys.readouterr().err.splitlines() if "not trained on: equal" in line]
        assert [line.split(":")[0] for line in lines] == ["twice", "twice"]  # for the test, and for the validation

    @pytest.mark.parametrize("seed", range(6))
    def test_one_image_many_times(self, tmp_path, digits, seed):
        """It is always held out, so only the other one can be trained on."""
        np.savez(tmp_path / "same.npz", x_train=np.repeat(digits[:2], (9, 1), axis=0), x_test=digits[2:4])
        config = TrainConfig(dataset=str(tmp_path / "same.npz"), validation_split=0.5, seed=seed)
        held_out = held_out_split(10, 0.5, seed)[1]
        if 9 in held_out:
            with pytest.raises(UserError, match="5 that are equal to one of them; remove duplicates"):
                load_dataset(config)
        else:
            assert np.array_equal(load_dataset(config).train, digits[1:2][..., None])

    def test_test_images_that_are_training_images_are_said(self, digits_npz, tmp_path, capsys):
        """The file's own division is kept."""
        run = trained(tmp_path / "run", dataset=digits_npz)
        assert "tiny: 20 of 20 test images are training images, too\n" in capsys.readouterr().err
        assert len(measured(run)) == 20


def config_of_0_1_0(dataset):
    names = (
        "recipe dataset data_dir noisy_dir clean_dir channels patch_size patches_per_image limit validation_split "
        "noise noise_factor clip batch_size epochs learning_rate beta_1 beta_2 schedule warmup_steps initialization "
        "early_stopping seed"
    )
    values = ("seed", dataset, None, None, None, 1, None, 16, None, 0.05, ["gaussian"])
    values += ([0.5], True, 100, 5, 0.001, 0.9, 0.999, "constant", 0, "torch", None, 0)
    return dict(zip(names.split(), values, strict=True))


def old_run(run, dataset, files):
    """Write the config.json of a run of keras_dae 0.1.0, format 1, whose images are these files."""
    sha256 = hashlib.sha256()
    for file in files:
        sha256.update(hashlib.sha256(np.asarray(Image.open(file)).tobytes()).digest())
    values = config_of_0_1_0(str(dataset))
    about = {"name": "images", "sha256": sha256.hexdigest(), "image_shape": [24, 24, 1], "skipped": []}
    about |= {"training_images": 51, "validation_images": 3, "test_images": 6}
    content = {"format": 1, "config": values, "dataset": about, "versions": {"keras_dae": "0.1.0"}}
    run.mkdir()
    (run / "config.json").write_text(json.dumps(content))
    return run


class TestRunOfAnEarlierVersion:
    """Those tell only a hash of all pixels, and divide by the number of files."""

    OLD_TEST = frozenset({0, 12, 26, 31, 39, 50})  # of 60 files; a literal from keras_dae 0.1.0

    @pytest.fixture
    def run(self, tmp_path):
        folder = save(tmp_path / "images", [])
        for number in range(60):
            Image.new("L", (24, 24), number).save(folder / f"{number:02}.bmp")
        return old_run(tmp_path / "run", folder, sorted(folder.iterdir()))

    def test_keeps_its_split(self, run, tmp_path):
        assert load_config(run / "config.json").split == "count"
        for overrides in ({}, {"dataset": tmp_path / "images"}):
            assert set(np.unique(measured(run, **overrides).clean)) == self.OLD_TEST

    def test_a_folder_that_has_changed_is_refused(self, run, tmp_path):
        save(tmp_path / "images", [200])
        with pytest.raises(UserError, match=r"the images in images have changed since .* was trained"):
            measured(run)

    def test_copies_are_refused_while_its_images_are_there(self, run, tmp_path, capsys):
        shutil.copytree(tmp_path / "images", tmp_path / "copy")
        with pytest.raises(UserError, match="test images in copy were used to train"):
            measured(run, dataset=tmp_path / "copy")
        shutil.rmtree(tmp_path / "images")
        capsys.readouterr()
        assert measured(run, dataset=tmp_path / "copy").image_count
        assert "the images that it was trained on are no longer there" in capsys.readouterr().err

    def test_is_trained_again_with_the_same_images(self, run, tmp_path):
        config = load_config(run / "config.json")
        dataset = load_dataset(config)
        assert dataset.sha256 == json.loads((run / "config.json").read_text())["dataset"]["sha256"]
        again = trained_from(tmp_path / "again", config)
        assert load_config(again / "config.json") == config
        assert names(again, "test") == [f"{number:02}.bmp" for number in sorted(self.OLD_TEST)]

    def test_of_mnist_is_measured_on_other_images(self, tmp_path):
        run = old_run(tmp_path / "run", "mnist", [])
        assert measured(run, dataset=save(tmp_path / "images", range(30))).image_count


def trained_from(run, config):
    prepare_partial_run(run, config, load_dataset(config), overwrite=False)
    return run


def test_an_interrupted_run_of_an_earlier_version_is_not_mixed_with_this_one(tmp_path):
    folder = save(tmp_path / "images", range(30))
    partial = old_run(tmp_path / "run.partial", folder, sorted(folder.iterdir()))
    (partial / "checkpoint/epoch-1").mkdir(parents=True)
    config = TrainConfig(dataset=str(folder))
    with pytest.raises(UserError, match="is an interrupted run that differs in white, split"):
        prepare_partial_run(partial, config, load_dataset(config), overwrite=False)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[: content.rindex(b"\ntrain") + 1],
        lambda content: content.replace(b"pixels", b"pxels"),
        lambda content: content.replace(b"train", b"other"),
        lambda content: content[:50] + b"\0\xff" + content[50:],
        lambda content: content.replace(b",", b',"', 1),
    ],
)
def test_a_damaged_list(run, damage):
    """It never reads as if the run had learned from less."""
    content = (run / "images.csv").read_bytes()
    before = read_image_hashes(run)
    (run / "images.csv").write_bytes(damage(content))
    try:
        found = read_image_hashes(run)
    except UserError as error:
        assert "images.csv" in str(error)
    else:
        assert {len(found[split]) - len(before[split]) for split in found} == {0}
