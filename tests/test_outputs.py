"""Which outputs count as finished, and under which names and links files are read and written."""

import errno
import os
import stat
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import assert_user_error
from PIL import Image

from keras_dae._util import atomic, staged_files
from keras_dae._util.atomic import atomic_file
from keras_dae._util.staged_files import StagedFiles
from keras_dae.denoise import work
from keras_dae.denoise.__main__ import main
from keras_dae.denoise.denoiser import load_denoiser
from keras_dae.denoise.outputs import FileState, without_finished
from keras_dae.denoise.work import Work, check_targets, list_work, merges_names
from keras_dae.errors import UserError

PIXELS = np.random.default_rng(0).integers(0, 256, (30, 41), np.uint8)


@pytest.fixture
def noisy(tmp_path):
    """A folder with three images, made an hour ago."""
    folder = tmp_path / "noisy"
    folder.mkdir()
    for index in range(3):
        Image.fromarray(PIXELS + index).save(folder / f"{index}.png")
        os.utime(folder / f"{index}.png", (time.time() - 3600,) * 2)
    return folder


def run(inputs, output, *options):
    return main([*map(str, inputs), "--model", "mnist", "--output-dir", str(output), *options])


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


class TestFinished:
    @pytest.fixture
    def done(self, noisy, tmp_path, capsys):
        """A folder with the outputs, and their contents."""
        assert run([noisy], tmp_path / "out") == 0
        capsys.readouterr()
        return tmp_path / "out", {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    def test_an_empty_output_is_missing(self, done, noisy, capsys):
        """As a power loss left it before outputs were synced, or a copy on a full disk."""
        out, contents = done
        (out / "1.png").write_bytes(b"")
        assert run([noisy], out) == 0
        assert "1 denoised" in (error := capsys.readouterr().err)
        assert "2 kept" in error
        assert {path.name: path.read_bytes() for path in out.iterdir()} == contents

    def test_an_output_that_is_older_than_its_input(self, done, noisy, capsys):
        out, _ = done
        Image.fromarray(255 - PIXELS).save(noisy / "1.png")
        os.utime(out / "1.png", (time.time() - 60,) * 2)
        assert run([noisy], out) == 0
        error = capsys.readouterr().err
        assert "older than their inputs, and are made again: 1" in error
        assert "1 denoised" in error
        assert np.array_equal(pixels(out / "1.png"), load_denoiser("mnist")(255 - PIXELS))
        assert run([noisy], out) == 0
        assert "older" not in (error := capsys.readouterr().err.replace(str(out), ""))
        assert "3 kept" in error

    def test_kept_outputs_may_be_of_another_model(self, done, noisy, capsys):
        out, contents = done
        assert run([noisy], out) == 0
        assert "kept may be of another model; --overwrite" in capsys.readouterr().err
        assert run([noisy], out, "--overwrite") == 0
        assert "another model" not in capsys.readouterr().err
        assert {path.name: path.read_bytes() for path in out.iterdir()} == contents

    @pytest.mark.parametrize("link", [os.symlink, os.link])
    def test_a_link_to_an_input_is_no_output(self, link, done, noisy, capsys):
        out, contents = done
        before = (noisy / "1.png").read_bytes()
        (out / "1.png").unlink()
        link(noisy / "1.png", out / "1.png")
        assert run([noisy], out) == 0
        assert "1 denoised" in capsys.readouterr().err
        assert (noisy / "1.png").read_bytes() == before
        assert (out / "1.png").read_bytes() == contents["1.png"]
        assert not (out / "1.png").is_symlink()

    def test_a_link_to_an_output_elsewhere_is_kept(self, done, noisy, tmp_path, capsys):
        """As data version control keeps its files."""
        out, contents = done
        (out / "1.png").rename(tmp_path / "stored.png")
        (out / "1.png").symlink_to(tmp_path / "stored.png")
        assert run([noisy], out) == 0
        assert "3 kept" in capsys.readouterr().err
        assert (out / "1.png").is_symlink()
        assert (out / "1.png").read_bytes() == contents["1.png"]

    def test_a_link_to_nothing_is_replaced(self, done, noisy, tmp_path):
        out, contents = done
        (out / "1.png").unlink()
        (out / "1.png").symlink_to(tmp_path / "nowhere.png")
        assert run([noisy], out) == 0
        assert (out / "1.png").read_bytes() == contents["1.png"]
        assert not (tmp_path / "nowhere.png").exists()

    def test_a_folder_in_the_place_of_an_output(self, done, noisy, capsys):
        out, _ = done
        (out / "1.png").unlink()
        (out / "1.png").mkdir()
        assert run([noisy], out) == 1
        assert "1.png: cannot write" in capsys.readouterr().err

    def test_a_store_that_knows_no_times(self):
        works = [Work(Path(name), Path("out", name)) for name in "abcd"]
        sources = {item.source: FileState(5, 1000 if item.source.name == "b" else None) for item in works}
        targets = {Path("out", "a"): FileState(5), Path("out", "b"): FileState(5), Path("out", "c"): FileState(0)}
        assert [item.source.name for item in without_finished(works, sources, targets)] == ["c", "d"]


class TestOnTheDisk:
    """Outputs are on the disk before they get their names."""

    def test_sync_comes_before_the_names(self, noisy, tmp_path, monkeypatch):
        events, sync, replace = [], staged_files.sync, os.replace

        def noting_sync(path):
            events.append(("sync", Path(path).name))
            sync(path)

        def noting_replace(temporary, path):
            events.append(("name", Path(temporary).name))
            replace(temporary, path)

        monkeypatch.setattr(staged_files, "sync", noting_sync)
        monkeypatch.setattr(os, "replace", noting_replace)
        assert run([noisy], tmp_path / "out", "--processes", "1") == 0
        assert [kind for kind, _ in events] == ["sync"] * 3 + ["name"] * 3
        assert {name for kind, name in events if kind == "sync"} == {name for kind, name in events if kind == "name"}

    def test_a_file_that_cannot_be_synced(self, noisy, tmp_path, monkeypatch, capsys):
        """For example, a network disk says only now that it is full."""
        assert run([noisy], tmp_path / "sound") == 0
        sync, refused = staged_files.sync, (tmp_path / "sound/1.png").read_bytes()

        def refusing(path):
            if Path(path).read_bytes() == refused:
                raise OSError(errno.ENOSPC, "No space left on device")
            sync(path)

        monkeypatch.setattr(staged_files, "sync", refusing)
        assert run([noisy], tmp_path / "out", "--processes", "1") == 1
        assert "1.png: cannot write" in (error := capsys.readouterr().err)
        assert "No space left" in error
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.png", "2.png"]

    def test_an_interrupted_job_leaves_no_temporary_files(self, tmp_path):
        files = StagedFiles()
        files.write(tmp_path / "a", b"1")
        assert [path.name[0] for path in tmp_path.iterdir()] == ["."]
        files.discard()
        assert list(tmp_path.iterdir()) == []

    def test_many_files_do_not_wait_for_the_end(self, tmp_path, monkeypatch):
        monkeypatch.setattr(staged_files, "MAX_STAGED", 3)
        files = StagedFiles()
        for index in range(7):
            files.write(tmp_path / f"{index}", bytes([index]))
        assert sorted(path.name for path in tmp_path.glob("[0-9]")) == list("012345")
        assert files.finish() == {}
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
            str(index): bytes([index]) for index in range(7)
        }


class TestNames:
    @pytest.mark.parametrize("length", [200, 249, 250, 254, 255])
    @pytest.mark.parametrize("processes", ["1", "2"])
    def test_the_longest_names(self, length, processes, tmp_path, monkeypatch):
        monkeypatch.setattr("keras_dae.denoise.files.MAX_CHUNK_FILES", 1)
        names = ["a" * (length - 4) + ".png", "é" * ((length - 4) // 2) + "b" * (length % 2) + ".png"]
        (tmp_path / "noisy").mkdir()
        for name in names:
            Image.fromarray(PIXELS).save(tmp_path / "noisy" / name)
        assert run([tmp_path / "noisy"], tmp_path / "out", "--processes", processes) == 0
        assert {path.name for path in (tmp_path / "out").iterdir()} == set(names)

    def test_a_long_ending(self, tmp_path):
        path = tmp_path / ("a." + "b" * 253)
        with atomic_file(path) as temporary:
            temporary.write_text("whole")
        assert path.read_text() == "whole"

    @pytest.mark.parametrize(
        "name",
        [b"line\nbreak.png", b"\xff\xfe.png", b"-.png", b"--overwrite.png", b" a .png", b"\x1b[31m.png", b"a.b..png"],
    )
    def test_odd_names(self, name, tmp_path):
        path = tmp_path / "noisy" / os.fsdecode(name)
        path.parent.mkdir()
        Image.fromarray(PIXELS).save(path, "PNG")
        assert run([tmp_path / "noisy"], tmp_path / "out") == 0
        assert [os.fsencode(path.name) for path in (tmp_path / "out").iterdir()] == [name]

    def test_temporary_names_are_never_shared(self):
        """Machines that share a disk may have processes of the same number."""
        path = Path("out", "a" * 251 + ".png")
        names = {atomic.temporary_beside(path).name for _ in range(1000)}
        assert len(names) == 1000
        assert all(name.startswith(".") and name.endswith(".png") and len(name) < 60 for name in names)

    def test_temporary_files_of_a_killed_job_are_no_inputs(self, noisy, tmp_path):
        temporary = atomic.temporary_beside(noisy / "0.png")
        temporary.write_bytes(b"half")
        assert len(list_work([noisy], tmp_path / "out")) == 3

    @pytest.mark.parametrize("write", [StagedFiles, atomic_file])
    def test_permissions(self, write, tmp_path):
        def put(name):
            if write is atomic_file:
                with atomic_file(tmp_path / name) as temporary:
                    temporary.write_bytes(b"new")
            else:
                files = StagedFiles()
                files.write(tmp_path / name, b"new")
                assert files.finish() == {}
            return stat.S_IMODE((tmp_path / name).stat().st_mode)

        old_umask = os.umask(0o027)
        try:
            assert put("new") == 0o640
        finally:
            os.umask(old_umask)
        (tmp_path / "private").touch()
        (tmp_path / "private").chmod(0o600)
        assert put("private") == 0o600
        (tmp_path / "link").symlink_to(tmp_path / "private")
        put("link")
        assert not (tmp_path / "link").is_symlink()
        assert (tmp_path / "private").read_bytes() == b"new"

    def test_two_names_that_a_disk_merges(self, tmp_path, monkeypatch):
        works = [
            Work(tmp_path / folder / name, tmp_path / "out" / name) for folder, name in (("a", "x.png"), ("b", "X.png"))
        ]
        accents = [Work(tmp_path / name, tmp_path / "out" / f"{name}.png") for name in ("e\u0301", "\u00e9")]
        for pair in (works, accents):
            check_targets(pair)  # this disk tells them apart
        monkeypatch.setattr(work, "merges_names", lambda folder: True)
        for pair in (works, accents):
            with pytest.raises(UserError, match="takes both names for the same"):
                check_targets(pair)

    def test_this_disk_tells_names_apart(self, tmp_path):
        (tmp_path / "probe").touch()
        assert merges_names(tmp_path / "not" / "there") is (tmp_path / "PROBE").exists()
        assert [path.name for path in tmp_path.iterdir()] == ["probe"]

    def test_a_name_that_is_too_long_for_a_folder(self, tmp_path):
        assert merges_names(tmp_path / ("x" * 300)) is merges_names(tmp_path)

    def test_an_input_that_is_a_link_to_an_output(self, noisy, tmp_path, capsys):
        """Writing the output would change the input."""
        (tmp_path / "out").mkdir()
        (noisy / "1.png").rename(tmp_path / "out/1.png")
        (noisy / "1.png").symlink_to(tmp_path / "out/1.png")
        status = run([noisy], tmp_path / "out", "--overwrite")
        assert_user_error(status, capsys.readouterr().err, "would overwrite an input")

    def test_a_folder_by_another_path(self, noisy, tmp_path, capsys):
        (tmp_path / "link").symlink_to(noisy)
        status = run([noisy], tmp_path / "link", "--overwrite")
        assert_user_error(status, capsys.readouterr().err, "would overwrite an input")
