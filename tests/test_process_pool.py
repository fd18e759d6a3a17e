"""Processes that cannot start end the job, with the reason; a task that kills its process does not."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import assert_user_error
from PIL import Image

from keras_dae.denoise import files
from keras_dae.denoise.__main__ import main
from keras_dae.denoise.process_pool import map_in_processes
from keras_dae.errors import UserError

ROOT = Path(__file__).parent.parent
TASKS = list(range(6))


def note_start(folder):
    """Leave a file for each process that was started."""
    Path(folder, str(os.getpid())).touch()


def squares(folder):
    note_start(folder)
    return lambda number: number**2


def refusing(folder):
    note_start(folder)
    raise UserError("the model has gone")


def broken(folder):
    note_start(folder)
    raise ImportError("libfoo.so: cannot open shared object file")


def killed(folder):
    note_start(folder)
    os.kill(os.getpid(), signal.SIGKILL)


def leaving(folder):
    note_start(folder)
    os._exit(7)


def deadly_three(folder):
    note_start(folder)

    def work(number):
        if number == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return number**2

    return work


def swallowing(folder):
    """The second process swallows the exception of SIGTERM, as the import of a library may."""
    note_start(folder)
    if len(list(Path(folder).iterdir())) > 1:
        deadline = time.monotonic() + 4
        while time.monotonic() < deadline:
            with contextlib.suppress(SystemExit):
                time.sleep(0.1)
    return lambda number: number**2


def test_a_process_that_swallows_sigterm_is_not_waited_for(tmp_path):
    results = []
    job = threading.Thread(
        target=lambda: results.extend(map_in_processes(swallowing, (tmp_path,), TASKS, 2)), daemon=True
    )
    job.start()
    job.join(25)
    assert not job.is_alive()
    assert sorted(results) == [(number, number**2) for number in TASKS]


def test_all_tasks_are_done(tmp_path):
    results = dict(map_in_processes(squares, (tmp_path,), TASKS, 2))
    assert results == {number: number**2 for number in TASKS}
    assert len(list(tmp_path.iterdir())) <= 2


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (refusing, "the model has gone"),
        (broken, "ImportError: libfoo.so"),
        (killed, "ended by SIGKILL; was the machine out of memory"),
        (leaving, "ended with status 7"),
    ],
)
def test_a_process_that_cannot_start_ends_the_job(make, expected, tmp_path):
    with pytest.raises(UserError, match=expected):
        list(map_in_processes(make, (tmp_path,), TASKS, 2))
    assert 1 <= len(list(tmp_path.iterdir())) <= 2  # no other process takes its place


def test_a_task_that_kills_its_process(tmp_path):
    results = dict(map_in_processes(deadly_three, (tmp_path,), TASKS, 2))
    assert results == {number: None if number == 3 else number**2 for number in TASKS}
    assert len(list(tmp_path.iterdir())) <= 3


@pytest.fixture
def noisy(tmp_path):
    folder = tmp_path / "noisy"
    folder.mkdir()
    for index in TASKS:
        Image.fromarray(np.full((30, 30), 40 * index, np.uint8)).save(folder / f"{index}.png")
    return folder


def start_script(folder, text, **options):
    """Run a program that a user wrote; each interpreter that runs it writes a line into `starts`."""
    script = folder / "script.py"
    script.write_text(f"import os\nwith open('starts', 'a') as file:\n    file.write('x')\n{text}")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, script], cwd=folder, env=environment, capture_output=True, text=True, timeout=120, **options
    )


CALL = """
from keras_dae.denoise import files
from keras_dae.errors import run_command
files.MAX_CHUNK_FILES = 1
"""


def test_a_script_without_a_guard(noisy, tmp_path):
    call = "raise SystemExit(run_command(files.denoise_files, ['noisy'], 'mnist', 'out', processes=2))"
    done = start_script(tmp_path, CALL + call)
    assert_user_error(done.returncode, done.stderr, 'if __name__ == "__main__":')
    assert "was memory short" not in done.stderr
    assert len((tmp_path / "starts").read_text()) <= 3
    assert not (tmp_path / "out").exists()


def test_a_script_with_a_guard(noisy, tmp_path):
    call = "if __name__ == '__main__':\n    files.denoise_files(['noisy'], 'mnist', 'out', processes=2)"
    done = start_script(tmp_path, CALL + call)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "out").iterdir())) == 6


def test_in_a_process_that_may_start_no_others(noisy, tmp_path):
    """Such as a worker of `multiprocessing.Pool`: the job runs in that process."""
    call = """
import multiprocessing
def job(number):
    return files.denoise_files(['noisy'], 'mnist', f'out{number}', processes=2)
if __name__ == '__main__':
    with multiprocessing.get_context('spawn').Pool(1) as pool:
        assert pool.map(job, [0]) == [(6, 0)]
"""
    done = start_script(tmp_path, CALL + call)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "out0").iterdir())) == 6


@pytest.mark.parametrize("error", ["ImportError", "OSError", "RuntimeError"])
def test_a_broken_onnxruntime(error, noisy, tmp_path):
    (tmp_path / "onnxruntime.py").write_text(f"raise {error}('libonnxruntime.so: not found')")
    command = [sys.executable, "-m", "keras_dae.denoise", "noisy", "--model", "mnist", "--output-dir", "out"]
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert_user_error(done.returncode, done.stderr, "cannot import onnxruntime: libonnxruntime.so: not found")


@pytest.mark.parametrize(("content", "expected"), [(b"another model", "was changed"), (None, "No such file")])
def test_a_model_that_is_replaced_or_vanishes(content, expected, noisy, tmp_path, monkeypatch, capsys):
    """All outputs of a job come from one model."""
    model = tmp_path / "model.onnx"
    model.write_bytes((ROOT / "saved_models/mnist/model.onnx").read_bytes())
    start = files.map_in_processes

    def change(*arguments):
        model.unlink() if content is None else model.write_bytes(content)
        return start(*arguments)

    monkeypatch.setattr(files, "map_in_processes", change)
    monkeypatch.setattr(files, "MAX_CHUNK_FILES", 3)
    options = ["--model", str(model), "--output-dir", str(tmp_path / "out"), "--processes", "2"]
    assert_user_error(main([str(noisy), *options]), capsys.readouterr().err, "a process cannot work", expected)
    assert not (tmp_path / "out").exists()


def processes_below(pid):
    """Return the process ids of all living descendants."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        if fields[0] != "Z":
            parents[int(stat.parent.name)] = int(fields[1])
    below, new = set(), {pid}
    while new:
        new = {child for child, parent in parents.items() if parent in new} - below
        below |= new
    return below


def alive(pids):
    """Return which of these processes live."""
    return [pid for pid in pids if Path(f"/proc/{pid}/stat").exists() and _state(pid) not in "ZX"]


def _state(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the system has no /proc")
@pytest.mark.parametrize(("number", "status"), [("SIGINT", 130), ("SIGTERM", -15), ("SIGKILL", -9)])
def test_stopping_stops_all_processes(number, status, tmp_path):
    """However a job is stopped, its processes end, no half output is there, and the same command does the rest."""
    for index in range(40):
        np.save(tmp_path / f"{index}.npy", np.zeros((1000, 1100), np.uint8))
    command = [
        sys.executable,
        "-m",
        "keras_dae.denoise",
        tmp_path,
        "--model",
        "mnist",
        "--output-dir",
        tmp_path / "out",
    ]
    process = subprocess.Popen(
        [*map(str, command), "--processes", "2"],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        # If a shell starts the tests in the background, its children ignore SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    outputs = tmp_path / "out"
    deadline = time.monotonic() + 120
    while not list(outputs.glob("[0-9]*.npy")) and time.monotonic() < deadline:
        time.sleep(0.02)
    below = processes_below(process.pid)
    assert len(below) >= 2, "the workers should be seen here"
    process.send_signal(getattr(signal, number))
    _, error = process.communicate(timeout=300)
    assert process.returncode == status
    assert b"Traceback" not in error
    deadline = time.monotonic() + 120
    while (left := alive(below)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left == []
    finished = list(outputs.glob("[0-9]*.npy"))
    assert 0 < len(finished) < 40
    assert all(np.load(path).shape == (1000, 1100) for path in finished)
    hidden = [path.name for path in outputs.iterdir() if path not in finished]
    assert hidden == [] if number != "SIGKILL" else all(name.startswith(".") for name in hidden)
