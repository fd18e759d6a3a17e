"""Compare two workers with one process, on one core each: `python -m benchmarks.workers`.

The trainings are started in turn, as a user starts them. The result is the median of images/s over the epochs from the
third on, when nothing is compiled any more. TensorFlow listens on all addresses. To run without a network:
`unshare -rn sh -c 'ip link set lo up; python -m benchmarks.workers'`.
"""

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.contender import add_rounds
from keras_dae.errors import run_command

IMAGES, EPOCHS, PORT = 12_000, 7, 20_000


def images_per_second(count, batch_size, folder, images=IMAGES):
    """Return the median images/s of a training with `count` processes on one core each.

    Raises:
        RuntimeError: a process failed. The message has its output.
    """
    cluster = {"worker": [f"127.0.0.1:{PORT + worker}" for worker in range(count)]}
    tasks = [{"type": "worker", "index": worker} for worker in range(count)]
    options = [*("--batch-size", batch_size), *("--limit", images), *("--epochs", EPOCHS), *("--output-dir", folder)]
    command = [sys.executable, "-m", "keras_dae.train", "--no-export", *map(str, options)]
    workers = [
        subprocess.Popen(
            ["taskset", "-c", str(core), *command],
            env={**os.environ, "TF_CONFIG": json.dumps({"cluster": cluster, "task": task})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for task, core in zip(tasks, sorted(os.sched_getaffinity(0)))
    ]
    try:
        for worker in workers:
            output = worker.communicate(timeout=300)[0]
            if worker.returncode:
                raise RuntimeError(output)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    with open(Path(folder, "history.csv")) as file:
        return statistics.median(float(epoch["images_per_second"]) for epoch in list(csv.DictReader(file))[2:])


def main(argv=None):
    """Print medians over the rounds for each batch size."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.workers", description=__doc__.splitlines()[0])
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[100, 256, 1024])
    add_rounds(parser, 5)
    options = parser.parse_args(argv)

    def command():
        for batch_size in options.batch_sizes:
            rounds = []
            for _ in range(options.rounds):
                with tempfile.TemporaryDirectory() as folder:
                    rounds.append([images_per_second(n, batch_size, Path(folder, f"run{n}")) for n in (1, 2)])
            one, two = (statistics.median(figures) for figures in zip(*rounds))
            ratio = statistics.median(two / one for one, two in rounds)
            print(f"batch {batch_size}: {one:,.0f} images/s alone, {two:,.0f} by two workers: {ratio:.2f}×", flush=True)

    return run_command(command)


if __name__ == "__main__":
    sys.exit(main())
