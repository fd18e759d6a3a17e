"""Ray gives the same files and pixels as the local engine, whatever crashes. The cluster has a separate network."""

import contextlib
import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from conftest import assert_user_error, run_module
from PIL import Image

pytest.importorskip("ray", reason="ray is not installed: pip install 'keras_dae[ray]'")

import pyarrow as pa
import pyarrow.parquet as pq
from alone import ALONE, why_not
from campaign_ray import (
    ROOT,
    START,
    campaign,
    content,
    denoise_locally,
    kill,
    lives,
    png,
    processes_beside,
    start,
    workers_beside,
    write_inputs,
)
from pyarrow.fs import LocalFileSystem

from keras_dae.denoise.__main__ import main
from keras_dae.denoise.denoiser import load_denoiser
from keras_dae.denoise.files import denoise_files
from keras_dae.denoise.notes import FileNote, Note
from keras_dae.denoise.ray.job import _invisible_outputs, _missing, _write_failed_table, list_inputs
from keras_dae.denoise.ray.messages import ChunkResult, image_failure, result_from_row, result_to_table
from keras_dae.denoise.ray.parquet import denoise_parquet, image_column
from keras_dae.denoise.work import Work
from keras_dae.errors import UserError
from keras_dae.images.codec import decode

MODEL = "mnist"
PORT = 6379  # in the cluster's network

# Starts a cluster, and runs a job for each line of input. Only the first job waits until Ray is imported.
DRIVER = """
import contextlib, io, json, os, signal, socket, subprocess, sys, time
from unittest import mock
answers, sys.stdout = sys.stdout, sys.stderr
subprocess.Popen(sys.argv[2:], stdout=sys.stderr, env=os.environ | {"PYTHONPATH": ""})
from keras_dae.denoise import __main__ as denoise
from keras_dae.denoise.ray import worker as ray_worker

class Killed(ray_worker.Worker):
    def __call__(self, table):
        if any(path.endswith(b"deadly.png") for path in table["source"].to_pylist()):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(table)

class Refusing(ray_worker.Worker):
    def __init__(self, model, *others):
        import ray
        super().__init__(ray.put(b"no model"), *others)

for _ in range(300):
    with contextlib.suppress(ConnectionError), socket.create_connection(("127.0.0.1", int(sys.argv[1]))):
        break
    time.sleep(0.1)
for line in sys.stdin:
    arguments, patches = json.loads(line)
    with contextlib.ExitStack() as stack:
        output = stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
        for name, value in patches.items():
            stack.enter_context(mock.patch(name, globals().get(value, value)))
        status = denoise.main(arguments)
    print(json.dumps([status, output.getvalue()]), file=answers, flush=True)
"""
RAY = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--node-ip-address=127.0.0.1"]
RAY += [f"--port={PORT}", "--num-cpus=2", "--include-dashboard=false", "--disable-usage-stats"]


class Cluster:
    """A Ray cluster of 2 cores in a separate network namespace, and a driver in it."""

    def __init__(self, log):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "1" * 32}
        command = [*ALONE, sys.executable, "-c", DRIVER, str(PORT), *RAY]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": log}
        self.driver = subprocess.Popen(command, env=environment, text=True, **pipes)

    def run(self, source, output, *options, patches=None):
        """Denoise on the cluster, with some names patched in the driver. Return the exit status and stderr."""
        arguments = [source, "--model", MODEL, "--output-dir", output, "--engine", "ray"]
        arguments += ["--address", f"127.0.0.1:{PORT}", *options]
        print(json.dumps([[*map(str, arguments)], patches or {}]), file=self.driver.stdin, flush=True)
        return json.loads(self.driver.stdout.readline())

    def close(self):
        kill(self.driver, "driver")  # and all processes in its network; after SIGTERM, Ray takes half a minute


@pytest.fixture(scope="module")
def alone():
    """Skip the test unless this user may create network namespaces."""
    if reason := why_not():
        pytest.skip(reason)


@pytest.fixture(scope="module")
def cluster(alone, tmp_path_factory):
    with open(tmp_path_factory.mktemp("cluster") / "log", "w") as log:
        cluster = Cluster(log)
        yield cluster
        cluster.close()


@pytest.fixture
def tree(tmp_path):
    """A folder of images of several kinds, and three bad files."""
    folder = tmp_path / "tree"
    (folder / "a/b").mkdir(parents=True)
    random = np.random.default_rng(0)
    for index in range(7):
        Image.fromarray(random.integers(0, 256, (30 + index % 2, 41), np.uint8)).save(folder / f"{index}.png")
    first, second = (Image.fromarray(random.integers(0, 256, (20, 20, 3), np.uint8)) for _ in range(2))
    first.save(folder / "a/pages.tif", save_all=True, append_images=[second])
    first.save(folder / "a/b/photo.jpg")
    np.savez(folder / "a/arrays.npz", one=random.random((40, 50), np.float32))
    (folder / "a/cut.png").write_bytes((folder / "0.png").read_bytes()[:200])
    (folder / "text\n.png").write_text("no image")
    (folder / os.fsdecode(b"\xff.png")).write_bytes(b"")
    return folder


@pytest.mark.slow
def test_a_folder_as_the_local_engine_does_it(cluster, tree, tmp_path):
    with pytest.raises(UserError):
        denoise_files([tree], MODEL, tmp_path / "local")
    status, error = cluster.run(tree, tmp_path / "ray")
    assert status == 1, error
    assert "10 denoised" in error and "3 failed" in error and "text\\n.png" in error
    made = content(tmp_path / "ray")
    table = [*csv.DictReader(made.pop("failed.csv").decode().splitlines())]
    assert made == content(tmp_path / "local") and len(made) == 10
    assert {row["file"].rsplit("/")[-1] for row in table} == {"cut.png", "text\\n.png", "\\udcff.png"}
    assert all(row["error"] and not row["row"] for row in table)

    for bad in ("a/cut.png", "text\n.png", os.fsdecode(b"\xff.png")):
        shutil.copy(tree / "0.png", tree / bad)
    (tmp_path / "ray/1.png").write_bytes(b"kept as it is")
    status, error = cluster.run(f"file://{tree}", f"file://{tmp_path}/ray")  # by address, as in an object store
    assert status == 0, error
    assert "3 denoised" in error and "10 kept" in error
    denoise_files([tree], MODEL, tmp_path / "local")
    assert content(tmp_path / "ray") == content(tmp_path / "local") | {"1.png": b"kept as it is"}


def rows_denoised_one_by_one(path, column):
    denoiser = load_denoiser(MODEL)
    for value in pq.read_table(path)[column].to_pylist():
        image = value["bytes"] if isinstance(value, dict) else value
        yield denoiser(decode(image)[1][0].pixels)


@pytest.mark.slow
def test_parquet_files(cluster, tmp_path):
    """Schema, rows, row groups and codecs stay. A bad image becomes null, is reported, and is tried again."""
    source = write_inputs(tmp_path / "in", shards=2, rows=60, files=1)
    table = pa.table({"n": range(3), "picture": [png(np.full((30, 30), 99, np.uint8)), b"no image", None]})
    pq.write_table(table, source / "more/plain.parquet")
    (source / "cut.parquet").write_bytes((source / "train-00000.parquet").read_bytes()[:500])
    status, error = cluster.run(source, tmp_path / "out")
    assert status == 1, error
    assert "122 denoised" in error and "plain.parquet, row 1: expected PNG" in error and "cut.parquet: " in error
    names = sorted(str(path.relative_to(source)) for path in source.rglob("*.*"))
    assert sorted(content(tmp_path / "out")) == sorted({*names, "failed.csv"} - {"cut.parquet"})
    for name in ("train-00000.parquet", "train-00001.parquet"):
        noisy, denoised = (pq.ParquetFile(folder / name) for folder in (source, tmp_path / "out"))
        assert denoised.schema_arrow.equals(noisy.schema_arrow, check_metadata=True)
        assert [denoised.metadata.row_group(group).num_rows for group in range(denoised.num_row_groups)] == [30, 30]
        assert denoised.metadata.row_group(0).column(0).compression == "ZSTD"
        noisy, denoised = noisy.read(), denoised.read()
        assert denoised.drop_columns("image").equals(noisy.drop_columns("image"))
        assert denoised["image"].combine_chunks().field("path").equals(noisy["image"].combine_chunks().field("path"))
        got = [decode(image["bytes"])[1][0].pixels for image in denoised["image"].to_pylist()]
        assert all(map(np.array_equal, got, rows_denoised_one_by_one(source / name, "image")))
    plain = pq.read_table(tmp_path / "out/more/plain.parquet")
    assert plain["n"].equals(table["n"]) and plain["picture"].is_valid().to_pylist() == [True, False, False]
    failed = [*csv.DictReader((tmp_path / "out/failed.csv").read_text().splitlines())]
    assert [row["row"] for row in failed if "plain" in row["file"]] == ["1"]

    (source / "cut.parquet").unlink()
    pq.write_table(table.slice(0, 1), source / "more/plain.parquet")
    status, error = cluster.run(source, tmp_path / "out")
    assert status == 0, error
    assert "1 denoised" in error and "3 kept" in error
    assert not (tmp_path / "out/failed.csv").exists()


@pytest.mark.slow
def test_white_and_training_images_are_as_on_this_machine(cluster, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    values = np.random.default_rng(0).integers(0, 4096, (80, 60), np.uint16)
    Image.fromarray(values).save(source / "a.png")
    pq.write_table(pa.table({"image": [png(values), png(values // 4)]}), source / "b.parquet")
    for options, white in (([], "auto"), (["--white", "8191"], 8191)):
        status, error = cluster.run(source, tmp_path / "out", "--overwrite", *options)
        assert status == 0, error
        said = "3 files of 16 bits use only a part of their range: white is taken as 4095 for 2, 1023 for 1;"
        assert (said in error) == (not options)
        assert "3 of 3 images are unlike these (larger)" in error
        denoise_files([source / "a.png"], MODEL, tmp_path / "local", overwrite=True, white=white)
        assert (tmp_path / "out/a.png").read_bytes() == (tmp_path / "local/a.png").read_bytes()
        assert pq.read_table(tmp_path / "out/b.parquet")["image"][0].as_py() == (tmp_path / "out/a.png").read_bytes()
    status, error = cluster.run(source, tmp_path / "refused", "--white", "1023")
    assert status == 1
    assert "a.png: expected values of at most 1023" in error
    assert "b.parquet, row 0: expected values of at most 1023" in error


@pytest.mark.slow
def test_only_the_file_that_crashes_workers_fails(cluster, tmp_path):
    source = write_inputs(tmp_path / "in", shards=4, rows=50, files=300)
    expected = denoise_locally(source, MODEL, tmp_path / "local")
    shutil.copy(source / "0.png", source / "more/deadly.png")
    patches = {"keras_dae.denoise.ray.chunks.Worker": "Killed", "keras_dae.denoise.ray.chunks.RETRIES": 0}
    status, error = cluster.run(source, tmp_path / "out", patches=patches)
    assert status == 1, error
    assert "500 denoised" in error and "1 failed" in error
    assert "more/deadly.png: its worker died" in error
    made = content(tmp_path / "out")
    assert b"deadly.png" in made.pop("failed.csv") and made == expected


def test_a_worker_that_cannot_start_ends_the_job(cluster, tree, tmp_path):
    status, error = cluster.run(tree, tmp_path / "out", patches={"keras_dae.denoise.ray.chunks.Worker": "Refusing"})
    assert_user_error(status, error, "a worker on", "cannot work: cannot load the model")
    assert "died" not in error
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopping_stops_all_workers(number, alone, tmp_path):
    """The campaign below does the same with SIGKILL."""
    source = write_inputs(tmp_path / "in", shards=2, rows=1, files=6000)
    process = start(source, MODEL, tmp_path / "out")
    deadline = time.monotonic() + START
    while not list((tmp_path / "out").glob("[0-9]*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    workers = workers_beside(process.pid)
    others = processes_beside(process.pid).keys() - {process.pid}
    assert workers
    process.send_signal(number)
    process.communicate(timeout=START)
    assert process.returncode == 130 if number == signal.SIGINT else process.returncode  # Ray's handler chooses it
    deadline = time.monotonic() + START
    while any(map(lives, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    left = [worker for worker in workers if lives(worker)]
    for pid in filter(lives, others):  # Ray's own processes, which notice it later
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert left == []
    finished = content(tmp_path / "out")
    assert 0 < len(finished) < 6000
    assert all(decode(image) for name, image in finished.items() if name.endswith(".png"))


@pytest.mark.slow
def test_killed_drivers_and_workers(alone, tmp_path):
    source = write_inputs(tmp_path / "in", shards=6, rows=1500, files=1500)
    expected = denoise_locally(source, MODEL, tmp_path / "local")
    assert campaign(source, MODEL, tmp_path / "out", expected, kills=2, seconds=1) >= 1


@pytest.mark.parametrize("kind", [pa.binary(), pa.struct([pa.field("bytes", pa.binary(), nullable=False)])])
def test_a_bad_image_where_none_may_be_null(kind):
    values = [png(np.full((30, 30), 99, np.uint8)), b"no image"]
    rows = values if kind == pa.binary() else [{"bytes": value} for value in values]
    schema = pa.schema([pa.field("image", kind, nullable=False)])
    source, target = io.BytesIO(), io.BytesIO()
    pq.write_table(pa.table([pa.array(rows, kind)], schema), source)
    denoised, ((row, _),), _ = denoise_parquet(load_denoiser(MODEL), source, target)
    assert (denoised, row) == (1, 1)
    assert pq.read_table(target)["image"].is_valid().to_pylist() == [True, False]


def test_odd_names(tmp_path):
    """Inputs without a suffix, and folders whose names are not valid Unicode."""
    given, folder = tmp_path / "photo", tmp_path / os.fsdecode(b"out\xff")
    Image.fromarray(np.zeros((30, 30), np.uint8)).save(given, "PNG")
    _, states, works = list_inputs([given], folder)
    assert _missing(LocalFileSystem(), folder, works, states) == works
    folder.mkdir()
    (folder / "photo").touch()
    assert _missing(LocalFileSystem(), folder, works, states) == works  # an empty output is not finished
    (folder / "photo").write_bytes(b"an image")
    assert _missing(LocalFileSystem(), folder, works, states) == []
    failures = [image_failure(folder, f"cannot write {folder}")]
    _write_failed_table(LocalFileSystem(), folder / "failed.csv", failures)
    assert "\\udcff" in (folder / "failed.csv").read_text()
    result = ChunkResult(0, 0, failures, [FileNote(failures[0].file, Note("white", "4095"))])
    (row,) = result_to_table(result).to_pylist()
    assert result_from_row(row) == result
    _write_failed_table(LocalFileSystem(), folder / "failed.csv", [])
    assert not (folder / "failed.csv").exists()


def test_a_table_that_cannot_be_written():
    class Full(LocalFileSystem):
        def get_file_info(self, path):
            raise OSError("403, no rights")

    with pytest.raises(UserError, match=r"cannot write bucket/failed\.csv: 403, no rights"):
        _write_failed_table(Full(), PurePosixPath("bucket/failed.csv"), [])


def test_outputs_on_another_machines_disk(tmp_path):
    works = [Work(tmp_path / name, tmp_path / "out" / name) for name in ("here", "failed", "elsewhere")]
    (tmp_path / "out").mkdir()
    works[0].target.touch()
    (failure,) = _invisible_outputs(LocalFileSystem(), works, [image_failure(works[1].source, "no image")])
    assert failure.file == str(works[2].source)
    assert "all machines share" in failure.error


def test_which_column():
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    assert image_column(pa.schema([("a", pa.int8()), ("b", image)])) == "b"
    assert image_column(pa.schema([("mask", pa.large_binary()), ("image", image)])) == "image"
    assert image_column(pa.schema([("mask", pa.binary()), ("image", image)]), "mask") == "mask"
    with pytest.raises(UserError, match="--column to name the images, one of a, b"):
        image_column(pa.schema([("a", pa.binary()), ("b", image)]))
    with pytest.raises(UserError, match=r"expected a column of images .* got a \(int8\)"):
        image_column(pa.schema([("a", pa.int8())]))


def test_what_is_wrong_is_said_in_a_line(cluster, tree, tmp_path):
    pq.write_table(pa.table({"n": [1]}), tmp_path / "none.parquet")
    for expected, arguments in {
        "expected a column of images": [tmp_path / "none.parquet", tmp_path / "out"],
        "expected a Ray cluster at 127.0.0.1:9": [tree, tmp_path / "out", "--address", "127.0.0.1:9"],
        "an address is host:port, or auto": [tree, tmp_path / "out", "--address", "nonsense"],
        "which is not there": [f"file://{tmp_path}/missing", tmp_path / "out"],
        "cannot use nowhere://": ["nowhere://bucket/folder", tmp_path / "out"],
        "would overwrite an input": [tree, tree, "--overwrite"],
    }.items():
        status, error = cluster.run(*arguments)
        assert_user_error(status, error, expected)
    status, error = cluster.run(tree, tmp_path / "out", patches={"ray.__version__": "1.0"})
    assert_user_error(status, error, "Version mismatch", "Ray: 1.0")
    assert not (tmp_path / "out").exists()


def test_without_ray(tree, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "keras_dae.denoise.ray.job", raising=False)
    options = ["--model", MODEL, "--output-dir", str(tmp_path / "out"), "--engine", "ray"]
    assert_user_error(main([str(tree), *options]), capsys.readouterr().err, "pip install 'keras_dae[ray]'")


def test_wrong_use(tree):
    for options in (["--address", "auto"], ["--column", "a"], ["--engine", "other"]):
        assert run_module("keras_dae.denoise", tree, "--model", MODEL, "--output-dir", "out", *options).returncode == 2
    assert run_module("keras_dae.denoise", "-", "--model", MODEL, "--engine", "ray").returncode == 2
