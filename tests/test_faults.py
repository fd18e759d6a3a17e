"""Faults of the machine: a command is killed, the disk is full, rights are missing, two commands run at once."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from campaign_kill import EPOCHS, TRAINING, campaign
from conftest import assert_same_run, assert_user_error, run_module
from PIL import Image
from zygote import Zygote

from keras_dae._util.atomic import locked, remove_old, replace_folder, restore_old
from keras_dae._util.json_files import write_json
from keras_dae.errors import UserError
from keras_dae.train.checkpoint import CHECKSUM_FILE, COLUMNS, Checkpoint, checksums, is_undamaged

ROOT = Path(__file__).parent.parent
KILLS = 4


@pytest.fixture(scope="module")
def zygote():
    process = Zygote()
    yield process
    process.close()


@pytest.fixture(scope="module")
def command(digits_npz):
    """Arguments of a short training."""
    return ["--dataset", digits_npz, *TRAINING, "--no-export"]


@pytest.fixture(scope="module")
def undisturbed(zygote, command, tmp_path_factory):
    """A run without any fault."""
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    status, output = zygote.run("keras_dae.train", *command, "--output-dir", run)
    assert status == 0, output
    return run


def content(folder):
    """Return relative path -> bytes of all files, except for locks."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_damage_is_noticed(tmp_path):
    """A checkpoint is damaged if any file is changed, missing or added."""
    (tmp_path / "state").write_bytes(b"12345678")
    (tmp_path / "history").write_bytes(b"1")
    write_json(tmp_path / CHECKSUM_FILE, checksums(tmp_path))
    assert is_undamaged(tmp_path)
    for content in (b"1234", b"12345678 ", b"12345679", b"", None):
        (tmp_path / "state").unlink()
        if content is not None:
            (tmp_path / "state").write_bytes(content)
        assert not is_undamaged(tmp_path)
    (tmp_path / "state").write_bytes(b"12345678")
    assert is_undamaged(tmp_path)
    (tmp_path / "other").write_bytes(b"")
    assert not is_undamaged(tmp_path)


def test_checkpoint_is_written_to_the_disk_once(tmp_path, monkeypatch):
    """Every file of it, before it gets its name."""
    synced = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(os.readlink(f"/proc/self/fd/{file}")))
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    checkpoint = Checkpoint(tmp_path, keep_best=True)
    checkpoint.set_model(model)
    checkpoint.on_epoch_end(0, dict.fromkeys(COLUMNS, 1.0))
    files = {str(tmp_path / ".epoch-0001.staged" / path.name) for path in (tmp_path / "epoch-0001").iterdir()}
    assert len(files) == 4
    assert sorted(path for path in synced if path in files) == sorted(files)
    assert is_undamaged(tmp_path / "epoch-0001")


class TestKilled:
    @pytest.mark.slow
    def test_at_random_moments(self, zygote, command, tmp_path):
        """`campaign_kill.py` does the same for longer, and also during exports."""
        assert campaign(zygote, command, tmp_path, KILLS)  # how many runs finish depends on the load of the machine

    @pytest.fixture
    def interrupted(self, zygote, command, tmp_path):
        """The path of a run whose training was killed after three epochs or more."""
        checkpoints = tmp_path / "run.partial" / "checkpoint"
        run = tmp_path / "run"
        status, _ = zygote.run(
            "keras_dae.train", *command, "--output-dir", run, kill_when=(checkpoints / "epoch-0003").exists
        )
        assert status == -9
        return run

    @pytest.mark.slow
    @pytest.mark.parametrize("what", ["flip", "sums"])
    def test_damaged_checkpoint(self, zygote, command, undisturbed, interrupted, what):
        """After a power loss: the checkpoint before it is used, and the result is the same."""
        newest = sorted(interrupted.parent.glob("run.partial/checkpoint/epoch-*"))[-1]
        state = newest / "state.safetensors"
        data = state.read_bytes()
        if what == "flip":
            state.write_bytes(data[:-1000] + bytes([data[-1000] ^ 1]) + data[-999:])
        else:
            (newest / "sha256.json").write_text("")
        status, output = zygote.run("keras_dae.train", *command, "--output-dir", interrupted)
        assert status == 0, output
        assert f"{newest.name} is damaged" in output
        assert "continuing after epoch" in output
        assert_same_run(undisturbed, interrupted)

    @pytest.mark.slow
    def test_all_checkpoints_damaged(self, zygote, command, undisturbed, interrupted):
        states = list(interrupted.parent.glob("run.partial/checkpoint/epoch-*/state.safetensors"))
        for state in states:
            state.write_bytes(b"")
        status, output = zygote.run("keras_dae.train", *command, "--output-dir", interrupted)
        assert status == 0, output
        assert output.count("is damaged") >= len(states) >= 2  # one more may have been killed while it was removed
        assert "continuing after" not in output
        assert_same_run(undisturbed, interrupted)

    def test_in_the_last_step(self, zygote, command, undisturbed, tmp_path):
        """Between the rename of the run and the removal of its checkpoints: the same command does the rest."""
        run = tmp_path / "run"
        shutil.copytree(undisturbed, run)
        (run / "checkpoint" / "epoch-0008").mkdir(parents=True)
        status, output = zygote.run("keras_dae.train", *command, "--output-dir", run)
        assert status == 0, output
        assert content(run) == content(undisturbed)
        status, output = zygote.run("keras_dae.train", *command, "--output-dir", run)
        assert_user_error(status, output, "finished run")

    def test_while_replacing_a_run(self, tmp_path):
        """Between the two renames, and before the old run is removed."""
        (tmp_path / ".run.old").mkdir()
        remove_old(tmp_path / "run")
        assert (tmp_path / ".run.old").is_dir()  # it is the only run
        (tmp_path / "new").mkdir()
        replace_folder(tmp_path / "new", tmp_path / "run")
        remove_old(tmp_path / "run")
        assert [path.name for path in tmp_path.iterdir()] == ["run"]

    def test_between_the_renames(self, tmp_path):
        """The only run gets its name back, and the next command removes what else was left, but not while it runs."""
        for name in (".run.old", ".run.staged", ".run.import", "run.partial"):
            (tmp_path / name).mkdir()
        with locked(tmp_path / "run"):
            restore_old(tmp_path / "run")
            assert {path.name for path in tmp_path.iterdir()} == {".run.lock", "run", "run.partial"}
            (tmp_path / ".run.staged").mkdir()
            (tmp_path / ".run.old").mkdir()
            with pytest.raises(UserError, match="another process"), locked(tmp_path / "run"):
                pass
            assert (tmp_path / ".run.staged").is_dir()
            assert (tmp_path / ".run.old").is_dir()
        with locked(tmp_path / "run"):
            assert {path.name for path in tmp_path.iterdir()} == {".run.lock", "run", "run.partial"}

    def test_old_run_is_restored(self, zygote, command, undisturbed, tmp_path):
        """A training that was to replace it was killed between the renames: without --overwrite, it stays."""
        shutil.copytree(undisturbed, tmp_path / ".run.old")
        status, output = zygote.run("keras_dae.train", *command, "--output-dir", tmp_path / "run")
        assert_user_error(status, output, "finished run", "--overwrite")
        assert content(tmp_path / "run") == content(undisturbed)
        assert not (tmp_path / ".run.old").exists()

    @pytest.mark.slow
    def test_export(self, zygote, undisturbed, tmp_path):
        """While the SavedModel is written: no export appears, and the next export removes the remains."""
        run = tmp_path / "run"
        shutil.copytree(undisturbed, run)
        arguments = ["export", run, "--formats", "saved_model", "onnx"]
        status, _ = zygote.run(*arguments, kill_when=lambda: any(run.glob(".export/saved_model")))
        assert status == -9
        assert content(undisturbed).items() <= content(run).items()
        assert not {"saved_model", "model.onnx", "parity.json"} & {path.name for path in run.iterdir()}
        status, output = zygote.run(*arguments)
        assert status == 0, output
        assert not list(run.glob(".*"))
        assert (run / "saved_model/1").is_dir()

    def test_other_folders_are_never_removed(self, command, zygote, tmp_path):
        (tmp_path / "run.partial").mkdir()
        (tmp_path / "run.partial/thesis.txt").write_text("years of work")
        status, output = zygote.run("keras_dae.train", *command, "--output-dir", tmp_path / "run", "--overwrite")
        assert_user_error(status, output, "something else")
        assert (tmp_path / "run.partial/thesis.txt").is_file()


class TestWriteFaults:
    """The system refuses to write: files over a limit, a full disk, a read-only folder."""

    @pytest.mark.slow
    @pytest.mark.parametrize("limit", [500, 100_000])
    def test_no_room_while_training(self, zygote, command, undisturbed, tmp_path, limit):
        run = tmp_path / "run"
        status, output = zygote.run("keras_dae.train", *command, "--output-dir", run, limit=limit)
        assert_user_error(status, output, "cannot write", "File too large")
        assert not run.exists()
        status, output = zygote.run("keras_dae.train", *command, "--output-dir", run)
        assert status == 0, output
        assert_same_run(undisturbed, run)
        assert content(run).keys() == content(undisturbed).keys()

    @pytest.mark.slow
    @pytest.mark.parametrize("limit", [3000, 300_000])
    def test_no_room_after_training(self, zygote, command, undisturbed, tmp_path, limit):
        """The second attempt continues from the last checkpoint, after which no epoch is left."""
        run = tmp_path / "run"
        last = tmp_path / "run.partial/checkpoint" / f"epoch-{EPOCHS:04}"
        zygote.run("keras_dae.train", *command, "--output-dir", run, kill_when=last.exists)
        assert last.is_dir()
        status, output = zygote.run("keras_dae.train", *command, "--output-dir", run, limit=limit)
        assert_user_error(status, output, "cannot write", "File too large")
        assert not run.exists()
        status, output = zygote.run("keras_dae.train", *command, "--output-dir", run)
        assert status == 0, output
        assert_same_run(undisturbed, run)

    @pytest.mark.parametrize("limit", [1000, 300_000])
    def test_no_room_for_an_export(self, zygote, undisturbed, tmp_path, limit):
        run = tmp_path / "run"
        shutil.copytree(undisturbed, run)
        status, output = zygote.run("export", run, limit=limit)
        assert_user_error(status, output, "cannot write into")
        assert content(run) == content(undisturbed)

    @pytest.fixture
    def read_only(self, tmp_path):
        """A folder that cannot be written into, except by root with all capabilities."""
        folder = tmp_path / "read_only"
        folder.mkdir()
        folder.chmod(0o555)
        yield folder
        folder.chmod(0o755)

    def test_read_only_folder(self, command, read_only):
        status, output = without_rights("keras_dae.train", *command, "--output-dir", read_only / "run")
        assert_user_error(status, output, "cannot write into", "Permission denied")
        assert not any(read_only.iterdir())

    @pytest.mark.slow
    def test_rights_lost_midway(self, undisturbed, tmp_path):
        run = tmp_path / "run"
        shutil.copytree(undisturbed, run)
        before = content(run)
        run.chmod(0o555)
        try:
            status, output = without_rights("export", run)
        finally:
            run.chmod(0o755)
        assert_user_error(status, output, "cannot write into", "Permission denied")
        assert content(run) == before

    def test_names(self, zygote, command, tmp_path):
        (tmp_path / "file").write_text("")
        for output_dir, expected in (
            (tmp_path / ("a" * 300), "too long"),
            (tmp_path / ("a" * 250), "too long"),  # with .partial
            (tmp_path / "file", "something else"),
            (tmp_path / "file" / "run", "file"),
        ):
            status, output = zygote.run("keras_dae.train", *command, "--output-dir", output_dir)
            assert_user_error(status, output, expected)
        assert (tmp_path / "file").read_text() == ""

    @pytest.mark.slow
    def test_full_disk_while_denoising(self, undisturbed, zygote, tmp_path):
        run = tmp_path / "run"
        shutil.copytree(undisturbed, run)
        assert zygote.run("export", run, "--formats", "onnx")[0] == 0
        noisy = tmp_path / "noisy"
        noisy.mkdir()
        random_pixels = np.random.default_rng(0).integers(0, 256, (100, 100), np.uint8)
        Image.fromarray(random_pixels[:20]).save(noisy / "small.png")
        np.save(noisy / "large.npy", random_pixels)
        arguments = [noisy, "--model", run, "--output-dir", tmp_path / "out"]
        status, output = zygote.run("keras_dae.denoise", *arguments, limit=5000)
        assert status == 1
        assert "large.npy: cannot write" in output
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["small.png"]
        assert zygote.run("keras_dae.denoise", *arguments)[0] == 0
        assert len(list((tmp_path / "out").iterdir())) == 2


def without_rights(*arguments):
    """Run `python -m …` subject to file permissions: root gives up the capabilities to ignore them."""
    if os.geteuid():
        done = run_module(*arguments)
    else:
        capabilities = "-dac_override,-dac_read_search"
        command = ["setpriv", "--bounding-set", capabilities, "--inh-caps", capabilities, sys.executable, "-m"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command += map(str, arguments)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stderr


class TestTwoAtOnce:
    def test_second_training_is_refused(self, zygote, command, tmp_path):
        with locked(tmp_path / "run"):
            status, output = zygote.run("keras_dae.train", *command, "--output-dir", tmp_path / "run")
        assert_user_error(status, output, "another process is writing", tmp_path / "run")
        assert not (tmp_path / "run.partial").exists()

    def test_export_beside_a_training_is_refused(self, zygote, undisturbed):
        with locked(undisturbed):
            status, output = zygote.run("export", undisturbed)
        assert_user_error(status, output, "another process is writing")

    @pytest.mark.slow
    def test_lock_dies_with_its_process(self, zygote, command, tmp_path):
        run = tmp_path / "run"
        status, _ = zygote.run(
            "keras_dae.train", *command, "--output-dir", run, kill_when=(tmp_path / "run.partial/checkpoint").exists
        )
        assert status == -9
        assert (tmp_path / ".run.lock").exists()
        with locked(run):
            pass

    @pytest.mark.slow
    def test_reader_sees_whole_files_only(self, zygote, undisturbed, tmp_path):
        """While exports write into a run, and replace each other, whoever loads it there finds a sound run."""
        from keras_dae.denoise.denoiser import load_denoiser

        run = tmp_path / "run"
        shutil.copytree(undisturbed, run)
        stop, problems, loaded, versions = threading.Event(), [], [], set()

        def read():
            while not stop.is_set():
                try:
                    for name in ("config.json", "metrics.json", "parity.json"):
                        if (run / name).exists():
                            json.loads((run / name).read_text())
                    if (run / "model.onnx").exists():
                        load_denoiser(run)
                        loaded.append(time.monotonic())
                    for version in run.glob("saved_model/*"):
                        assert (version / "saved_model.pb").stat().st_size
                        assert (version / "variables/variables.index").stat().st_size
                        versions.add(version.name)
                except FileNotFoundError as error:
                    # The folder of a SavedModel may be replaced between two looks at it; nothing else may vanish.
                    if not str(error.filename).startswith(str(run / "saved_model")):
                        problems.append(error)
                except Exception as error:  # noqa: BLE001 - asserted below
                    problems.append(error)
                time.sleep(0.01)  # the exports need the processor, too

        reader = threading.Thread(target=read)
        reader.start()
        assert zygote.run("export", run, "--formats", "saved_model", "onnx")[0] == 0
        begin = time.monotonic()
        assert zygote.run("export", run, "--formats", "onnx")[0] == 0
        end = time.monotonic()
        stop.set()
        reader.join()
        assert not problems
        assert sum(begin < moment < end for moment in loaded) > 10
        assert versions == {"1"}
