"""Image files are decoded once; later starts find what is known of them in the user's cache folder."""

import os
import subprocess
import sys

import platformdirs
import pytest
from PIL import Image

from keras_dae.config import TrainConfig
from keras_dae.data import file_checks
from keras_dae.data.file_checks import CheckedFile, check_files
from keras_dae.data.load import load_dataset


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """A cache folder of the test."""
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda name: str(tmp_path / "cache" / name))
    return tmp_path / "cache" / "keras_dae" / "checked"


@pytest.fixture
def folder(tmp_path):
    """A folder of 12 images."""
    folder = tmp_path / "images"
    (folder / "sub").mkdir(parents=True)
    for level in range(12):
        Image.new("L", (24, 20 + level), 10 * level).save(folder / f"sub/{level}.png")
    return folder


@pytest.fixture
def decoded(monkeypatch):
    """The names of the files that are decoded from here on."""
    names = []

    def read(path, channels):
        names.append(path.name)
        return file_checks_read(path, channels)

    file_checks_read = file_checks.read_image
    monkeypatch.setattr(file_checks, "read_image", read)
    return names


def check(folder, channels=1):
    files = sorted(folder.rglob("*.png"))
    return dict(zip([file.name for file in files], check_files(folder, files, channels)))


def test_the_second_start_decodes_nothing(folder, decoded):
    first = check(folder)
    assert len(decoded) == 12
    decoded.clear()
    assert check(folder) == first
    assert decoded == []
    assert first["3.png"].height == 23 and first["3.png"].width == 24
    assert first["3.png"].depth == ("uint8", 30, None)


def test_the_dataset_is_the_same_from_the_cache(folder, decoded):
    config = TrainConfig(dataset=str(folder), patch_size=20)
    first = load_dataset(config)
    assert len(decoded) == 12
    second = load_dataset(config)
    assert len(decoded) == 12
    assert (first.sha256, first.list_images()) == (second.sha256, second.list_images())


def test_it_does_not_matter_how_the_folder_is_named(folder, decoded, tmp_path, monkeypatch):
    check(folder)
    decoded.clear()
    (tmp_path / "link").symlink_to(folder)
    check(tmp_path / "link")
    monkeypatch.chdir(tmp_path)
    check(type(folder)("images"))
    assert decoded == []


def test_what_has_changed_is_read_again(folder, decoded):
    before = check(folder)
    decoded.clear()
    Image.new("L", (24, 30), 200).save(folder / "sub/new.png")
    (folder / "sub/5.png").unlink()
    Image.new("L", (30, 24), 77).save(folder / "sub/6.png")
    after = check(folder)
    assert sorted(decoded) == ["6.png", "new.png"]
    assert "5.png" not in after
    assert after["6.png"] != before["6.png"]
    assert all(after[name] == before[name] for name in after.keys() - {"6.png", "new.png"})


def test_a_file_of_the_same_size_and_time_is_noticed(folder, decoded):
    """As `cp -p` or `rsync --times` leave it."""
    path = folder / "sub/3.png"
    before, status = check(folder)["3.png"], path.stat()
    content = bytearray(path.read_bytes())
    content[-20] ^= 1  # the checksum of the pixels is wrong now
    decoded.clear()
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size and path.stat().st_mtime_ns == status.st_mtime_ns
    assert check(folder)["3.png"] != before
    assert decoded == ["3.png"]


def test_a_file_that_is_replaced_at_once_is_noticed(tmp_path, decoded):
    """The clock of the filesystem may not have moved on between two changes."""
    for level in range(40):
        Image.new("L", (24, 24), level).save(tmp_path / "a.png")
        (found,) = check_files(tmp_path, [tmp_path / "a.png"], 1)
        assert found.depth.maximum == level


@pytest.mark.parametrize(("changed_ns", "seconds"), [(10**18 + 1, 0.05), (10**18, 2)])
def test_waits_until_another_change_would_be_seen(monkeypatch, changed_ns, seconds):
    slept = []
    monkeypatch.setattr(file_checks.time, "sleep", slept.append)
    for age, expected, is_sure in ((0.01, [seconds - 0.01], True), (seconds + 1, [], True), (-10, [], False)):
        monkeypatch.setattr(file_checks.time, "time", lambda age=age: 1e9 + age)
        slept.clear()
        assert file_checks._wait_for_clock(file_checks._Stamp(1, 0, changed_ns, 1)) == is_sure
        assert slept == pytest.approx(expected, abs=1e-5)


def test_a_time_in_the_future_is_not_trusted(folder, decoded):
    os.utime(folder / "sub/2.png", (4e9, 4e9))
    check(folder)
    decoded.clear()
    check(folder)
    assert decoded == ["2.png"]


def test_touched_files_are_no_other_dataset(folder):
    config = TrainConfig(dataset=str(folder), patch_size=20)
    first = load_dataset(config)
    for path in folder.rglob("*.png"):
        os.utime(path, (1e9, 1e9))
    second = load_dataset(config)
    assert (first.sha256, first.list_images()) == (second.sha256, second.list_images())


def test_another_decoder_decodes_again_but_finds_the_same_dataset(folder, decoded, monkeypatch):
    config = TrainConfig(dataset=str(folder), patch_size=20)
    first = load_dataset(config)
    decoded.clear()
    monkeypatch.setattr(file_checks, "version", lambda package: "another")
    darker = file_checks.read_image
    monkeypatch.setattr(file_checks, "read_image", lambda path, channels: darker(path, channels) // 2)
    second = load_dataset(config)
    assert len(decoded) == 12
    assert first.sha256 == second.sha256
    assert [image[:3] for image in first.list_images()] == [image[:3] for image in second.list_images()]


def test_grey_and_colour_are_kept_apart(folder, decoded):
    assert check(folder, 1)["3.png"].pixels != check(folder, 3)["3.png"].pixels
    decoded.clear()
    check(folder, 1)
    assert decoded == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-100],
        lambda content: b"",
        lambda content: b"\xff" * 50,
        lambda content: content.replace(b"24", b"25", 1),
        lambda content: b"[]",
    ],
)
def test_a_damaged_cache_is_made_again(folder, decoded, cache, capsys, damage):
    first = check(folder)
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    decoded.clear()
    assert check(folder) == first
    assert len(decoded) == 12
    assert "the images are checked again" in capsys.readouterr().err
    assert file.read_bytes() == whole


def test_a_cache_that_cannot_be_written_is_said(folder, cache, capsys):
    cache.parent.parent.mkdir()
    cache.parent.write_text("a file where the folder should be")
    assert all(isinstance(found, CheckedFile) for found in check(folder).values())
    assert "the checks of the images are not cached" in capsys.readouterr().err


def test_what_was_found_before_an_interruption_is_kept(folder, decoded, monkeypatch):
    read = file_checks.read_image

    def interrupted(path, channels):
        if path.name == "9.png":
            raise KeyboardInterrupt
        return read(path, channels)

    monkeypatch.setattr(file_checks, "read_image", interrupted)
    with pytest.raises(KeyboardInterrupt):
        check(folder)
    monkeypatch.setattr(file_checks, "read_image", read)
    decoded.clear()
    check(folder)
    assert 1 <= len(decoded) < 12


def test_unusable_files_are_named_every_time(folder):
    (folder / "bad.png").write_bytes(b"no image")
    for _ in "ab":
        assert check(folder)["bad.png"].startswith(f"{folder}/bad.png: not a readable image (")


@pytest.mark.slow
def test_two_processes_at_once(folder, tmp_path):
    """Both find the same, and leave a whole cache."""
    code = (
        "import sys; from pathlib import Path; from keras_dae.data.file_checks import check_files\n"
        "files = sorted(Path(sys.argv[1]).rglob('*.png'))\n"
        "print([check_files(sys.argv[1], files, 1) for _ in range(20)] == [check_files(sys.argv[1], files, 1)] * 20)"
    )
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "xdg")}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(folder)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in "abc"
    ]
    for process in processes:
        out, error = process.communicate(timeout=100)
        assert out == b"True\n", error
        assert b"cache" not in error
