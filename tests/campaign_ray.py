"""Kill the driver or a worker of denoising jobs on Ray, at random moments, and check that all outputs are right.

`python tests/campaign_ray.py` does this with a folder of PNG and Parquet files.
"""

import argparse
import contextlib
import io
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from alone import ALONE
from PIL import Image

from keras_dae.denoise.denoiser import load_denoiser
from keras_dae.denoise.files import denoise_files
from keras_dae.denoise.ray.parquet import denoise_parquet

ROOT = Path(__file__).parent.parent
START = 120  # seconds until the campaign gives up waiting for Ray's workers, which take about 5 to start


def png(pixels):
    """Return an image as the bytes of a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def write_inputs(folder, shards, rows, files, seed=0):
    """Write Parquet files of noisy 28×28 images, as Hugging Face does, and PNG files. Return the folder.

    Args:
        folder: to write into.
        shards: number of Parquet files.
        rows: images in each Parquet file.
        files: number of PNG files.
        seed: of the noise.
    """
    random = np.random.default_rng(seed)
    (folder / "more").mkdir(parents=True)
    for index in range(files):
        image = random.integers(0, 256, (28, 28), np.uint8)
        (folder / ("more" if index % 2 else "") / f"{index}.png").write_bytes(png(image))
    for shard in range(shards):
        images = [png(image) for image in random.integers(0, 256, (rows, 28, 28), np.uint8)]
        table = pa.table(
            {
                "label": pa.array(range(rows), pa.int16()),
                "image": [{"bytes": image, "path": f"{index}.png"} for index, image in enumerate(images)],
                "text": [f"{shard}/{index}" for index in range(rows)],
            }
        ).replace_schema_metadata({"huggingface": '{"info": {}}'})
        pq.write_table(table, folder / f"train-{shard:05}.parquet", row_group_size=-(-rows // 2), compression="zstd")
    return folder


def command(source, model, output, *options):
    """Return a command line that denoises `source` on Ray, in a separate network namespace."""
    arguments = [source, "--model", model, "--output-dir", output, "--engine", "ray", *options]
    return [*ALONE, sys.executable, "-m", "keras_dae.denoise", *map(str, arguments)]


def start(*arguments):
    """Start `command(*arguments)`; stderr is a pipe."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command(*arguments), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment, cwd=ROOT
    )


def processes_beside(pid):
    """Return `{process id: command line}` of the processes in the network namespace of the process `pid`."""
    beside = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            if os.readlink(process / "ns/net") == os.readlink(f"/proc/{pid}/ns/net"):
                beside[int(process.name)] = (process / "cmdline").read_text(errors="replace")
    return beside


def workers_beside(pid):
    """Return the sorted process ids of the workers of a job."""
    return sorted(number for number, line in processes_beside(pid).items() if line.startswith("ray::MapWorker"))


def kill(process, what, choose=random):
    """Send SIGKILL to the driver, and wait until its workers have ended; or to one worker. Return whether it worked.

    Args:
        process: the driver.
        what: `driver` or `worker`.
        choose: random generator that chooses the worker.
    """
    others, workers = processes_beside(process.pid), workers_beside(process.pid)
    if what == "worker":
        with contextlib.suppress(ProcessLookupError, IndexError):  # they ended meanwhile
            os.kill(choose.choice(workers), signal.SIGKILL)
            return True
        return False
    process.kill()
    process.communicate()
    deadline = time.monotonic() + START
    while any(map(lives, workers)):
        assert time.monotonic() < deadline, "the driver was killed, but its workers go on"
        time.sleep(0.05)
    for number in others:  # Ray's agents, which notice it later
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
    return process.returncode == -signal.SIGKILL


def lives(pid):
    """Return whether a process has not ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""  # empty if it has ended and is a zombie
    except OSError:
        return False


def content(folder):
    """Return `{relative path: content}` of all files that are not hidden. What a killed writer leaves is hidden."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def denoise_locally(source, model, output):
    """Denoise the files of `write_inputs` without Ray. Return the `content` of the output."""
    denoise_files([source], model, output)
    for path in source.glob("*.parquet"):
        with open(path, "rb") as noisy, open(output / path.name, "wb") as denoised:
            denoise_parquet(load_denoiser(model), noisy, denoised)
    return content(output)


def campaign(source, model, output, expected, kills, seconds, seed=0):
    """Kill drivers and workers in turn, and start each job again until it is done. Return the number of finished jobs.

    Args:
        source, model: of the jobs.
        output: folder for the outputs; it is removed after each job.
        expected: the `content` of the outputs.
        kills: number of SIGKILLs in all.
        seconds: that an undisturbed job takes from the start of the first worker; kills happen within this time.
        seed: of the random moments.

    Raises:
        AssertionError: a job failed in another way, or its outputs are wrong.
    """
    moments, killed, finished, process = random.Random(seed), 0, 0, None
    while killed < kills or process:
        process = process or start(source, model, output)
        if killed < kills:
            _wait_for_workers(process)
            time.sleep(moments.uniform(0, seconds))
        if killed < kills and process.poll() is None and workers_beside(process.pid):
            what = ("driver", "worker")[killed % 2]
            killed += kill(process, what, moments)
            if what == "driver":
                process = None
                continue
            if killed < kills:
                continue  # the next kill hits the same job, if it still runs
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
        assert content(output) == expected
        shutil.rmtree(output)
        finished, process = finished + 1, None
    return finished


def _wait_for_workers(process):
    deadline = time.monotonic() + START
    while process.poll() is None and not workers_beside(process.pid):
        assert time.monotonic() < deadline, "no worker started"
        time.sleep(0.02)


def main(argv=None):
    """Run `campaign`, and print what was survived."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="mnist", help="run folder, .onnx file or name")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        source = write_inputs(folder / "in", shards=12, rows=2000, files=4000)
        process = start(source, options.model, folder / "undisturbed")
        _wait_for_workers(process)
        begin = time.perf_counter()
        _, errors = process.communicate(timeout=300)
        seconds = time.perf_counter() - begin
        assert process.returncode == 0, errors
        expected = denoise_locally(source, options.model, folder / "local")
        assert content(folder / "undisturbed") == expected
        finished = campaign(source, options.model, folder / "out", expected, options.kills, seconds, options.seed)
        print(f"{options.kills} kills, {finished} jobs finished, all {len(expected)} outputs byte-identical")


if __name__ == "__main__":
    sys.exit(main())
