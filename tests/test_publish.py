"""A run loads at every moment while its exports are replaced, also after a kill at any point."""

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from export import publish as publishing
from export.parity import cases
from export.publish import publish
from export.run import export_run
from export.to_onnx import export_onnx
from keras_dae.denoise.denoiser import load_denoiser
from keras_dae.errors import UserError
from keras_dae.networks.keras_file import save_model
from keras_dae.runs import parity_file
from keras_dae.runs.parity_file import sha256_of

ROOT = Path(__file__).parent.parent
ENTRY = {"max_abs_error": 1e-6, "tolerance": 1e-5}


@pytest.fixture(scope="module")
def versions(model, tmp_path_factory):
    """Two exports of different content."""
    folder = tmp_path_factory.mktemp("versions")
    for version in ("old", "new"):
        export_onnx(model, folder / f"{version}.onnx", {"dataset": version})
    return [folder / "old.onnx", folder / "new.onnx"]


def put(version, run):
    """Publish a copy of an export in a run."""
    work = run.parent / f"work-{run.name}"
    work.mkdir(exist_ok=True)
    shutil.copy(version, work / "model.onnx")
    return publish({"onnx": work / "model.onnx"}, {"onnx": dict(ENTRY)}, run)


def dataset(run):
    """Return which version a reader finds."""
    return load_denoiser(run).session.get_modelmeta().custom_metadata_map["dataset"]


class Readers(threading.Thread):
    """Loads a run again and again, until `stop` is called."""

    def __init__(self, run):
        super().__init__()
        self.run_folder, self.found, self.errors, self.ended = run, [], [], threading.Event()

    def run(self):
        while not self.ended.is_set():
            try:
                self.found.append(dataset(self.run_folder))
            except UserError as error:
                self.errors.append(str(error))

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.join()


def test_a_reader_always_finds_a_verified_model(versions, tmp_path):
    put(versions[0], tmp_path)
    with Readers(tmp_path) as readers:
        for number in range(60):
            put(versions[(number + 1) % 2], tmp_path)
    assert readers.errors == []
    assert set(readers.found) == {"old", "new"}
    assert "replaces_sha256" not in (tmp_path / "parity.json").read_text()


@pytest.mark.parametrize("when", ["after", "before"])
def test_a_file_that_is_replaced_twice_while_it_is_checked(when, versions, tmp_path, monkeypatch):
    """So that the reader sees the first file twice, but the second file's parity.json, or the other way round."""
    put(versions[0], tmp_path)
    order = iter(["after", "before"] if when == "after" else ["before", "before"])
    following = iter(versions[::-1])

    def sha256_while_replaced(file):
        moment = next(order, None)
        if moment == "before":
            put(next(following), tmp_path)
        found = sha256_of(file)
        if moment == "after":
            put(next(following), tmp_path)
        return found

    monkeypatch.setattr(parity_file, "sha256_of", sha256_while_replaced)
    parity_file.check_verified(tmp_path / "model.onnx")


@pytest.mark.slow
def test_a_reader_during_exports(model, tmp_path, monkeypatch):
    monkeypatch.setattr(cases, "BATCH_SIZES", (1,))
    monkeypatch.setattr(cases, "IMAGE_SIZES", ((5, 3),))
    monkeypatch.setattr("export.run.onnx_metadata", lambda run: {"dataset": str(next(numbers))})
    numbers = iter(range(100))
    save_model(model, tmp_path / "run" / "model.keras")
    export_run(tmp_path / "run", formats=["onnx"])
    with Readers(tmp_path / "run") as readers:
        for _ in range(5):
            export_run(tmp_path / "run", formats=["onnx"])
    assert readers.errors == []
    assert len(set(readers.found)) > 3


KILLED = """
import os, shutil, sys
from pathlib import Path

from export.publish import publish

point, count = int(sys.argv[3]), 0
replace = os.replace


def dying(source, target):
    global count
    for when in ("before", "after"):
        if count == point:
            os._exit(9)
        count += 1
        if when == "before":
            replace(source, target)


work, run = Path(sys.argv[2] + "-new"), Path(sys.argv[2])
work.mkdir()
shutil.copy(sys.argv[1], work / "model.onnx")
os.replace = dying
publish({"onnx": work / "model.onnx"}, {"onnx": {"max_abs_error": 1e-6, "tolerance": 1e-5}}, run)
"""


@pytest.mark.slow
def test_after_a_kill_at_any_point_the_run_loads_and_the_next_export_works(versions, tmp_path):
    old, new = versions
    found, points = [], 0
    while True:
        run = tmp_path / str(points)
        run.mkdir()
        put(old, run)
        command = [sys.executable, "-c", KILLED, new, run, str(points)]
        status = subprocess.run(command, cwd=ROOT, timeout=120).returncode
        assert status in (0, 9)
        found.append(dataset(run))
        put(new if points % 2 else old, run)
        assert dataset(run) == ("new" if points % 2 else "old")
        if status == 0:
            break
        points += 1
    assert points == 6  # before and after each of: parity.json, model.onnx, parity.json
    assert found == ["old"] * 3 + ["new"] * 4


def test_after_two_kills_the_run_loads(versions, tmp_path, monkeypatch):
    """The second export replaces a file that the first one had not replaced yet."""
    old, new = versions
    put(old, tmp_path)
    for version in (new, old, new):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(publishing, "_sync_all", lambda path: (_ for _ in ()).throw(KeyboardInterrupt))
            put(version, tmp_path)
        assert dataset(tmp_path) == "old"


def test_a_damaged_file_is_not_blessed_by_the_next_export(versions, tmp_path, monkeypatch):
    put(versions[0], tmp_path)
    with open(tmp_path / "model.onnx", "ab") as file:
        file.write(b"damage")
    with pytest.raises(UserError, match="damaged"):
        load_denoiser(tmp_path)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(publishing, "_sync_all", lambda path: (_ for _ in ()).throw(KeyboardInterrupt))
        put(versions[1], tmp_path)
    with pytest.raises(UserError, match="damaged"):
        load_denoiser(tmp_path)


def test_an_export_without_parity_json_is_replaced(versions, tmp_path, monkeypatch):
    shutil.copy(versions[0], tmp_path / "model.onnx")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(publishing, "_sync_all", lambda path: (_ for _ in ()).throw(KeyboardInterrupt))
        put(versions[1], tmp_path)
    assert dataset(tmp_path) == "old"
    put(versions[1], tmp_path)
    assert dataset(tmp_path) == "new"


def test_a_folder_is_on_the_disk_before_it_is_renamed(tmp_path, monkeypatch):
    """Of a SavedModel: every file, and every folder's list of files."""
    saved = tmp_path / "work" / "saved_model"
    (saved / "variables").mkdir(parents=True)
    for name in ("saved_model.pb", "variables/variables.index"):
        (saved / name).write_text("content")
    (tmp_path / "run").mkdir()
    events, sync, replace = [], publishing.sync, os.replace
    monkeypatch.setattr(publishing, "sync", lambda path: (events.append(Path(path)), sync(path)))
    monkeypatch.setattr(os, "replace", lambda *paths: (events.append("rename"), replace(*paths)))
    placed = publish({"saved_model": saved}, {"saved_model": dict(ENTRY)}, tmp_path / "run")
    renamed = len(events) - events[::-1].index("rename", 1) - 1  # parity.json is renamed before and after
    before = set(events[:renamed])
    assert {saved, saved / "variables", saved / "saved_model.pb", saved / "variables/variables.index"} <= before
    assert placed == {"saved_model": tmp_path / "run/saved_model/1"}
    assert json.loads((tmp_path / "run/parity.json").read_text()) == {"saved_model": ENTRY}
