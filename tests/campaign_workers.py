"""Kill one of two workers at random times, restart both until they finish, and compare with an undisturbed run.

`python tests/campaign_workers.py --kills 20` trains on built-in digits and prints the result.
"""

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from cluster import ends, private_network, training
from conftest import assert_same_run

from keras_dae.data.digits import render_digits

TRAINING = ["--no-export", "--epochs", 20, "--batch-size", 16, "--early-stopping", 20]
LIMIT = 60  # seconds within which the other worker must end


def _says_why(output):
    """Return whether a worker said why it ended: another worker was lost, or never started."""
    last = output.rstrip().splitlines()[-1]
    return "error: another worker has ended" in output or "exits with status 1 unless all start" in last


def campaign(network, folder, kills, seed=0):
    """Kill a worker `kills` times in total, at times drawn uniformly over the duration of an undisturbed training.

    Args:
        network: what `cluster.private_network` yields.
        folder: folder for the runs; its `digits.npz` holds the images.
        kills: how often SIGKILL is sent. After that, an unfinished run may finish.
        seed: of the times.

    Returns:
        `(finished, slowest)`: the number of finished runs, and the longest time in seconds after which the remaining
        worker ended.

    Raises:
        AssertionError: the remaining worker did not end in time with one line, or a run differs from the undisturbed
            one.
    """
    command = ["-m", "keras_dae.train", "--dataset", folder / "digits.npz", *TRAINING, "--output-dir"]
    start = time.perf_counter()
    with training(network, *[[*command, folder / "undisturbed"]] * 2) as workers:
        for status, output in ends(workers, 300):
            assert status == 0, output
    seconds = time.perf_counter() - start

    moments, killed, finished, slowest, unfinished = random.Random(seed), 0, 0, 0.0, False
    while killed < kills or unfinished:
        run = folder / f"run{finished}"
        with training(network, *[[*command, run]] * 2) as workers:
            last = killed >= kills
            if not last:
                time.sleep(moments.uniform(0, seconds))
                victim = moments.randrange(2)
                killed += workers[victim].poll() is None
                workers[victim].kill()
            start = time.perf_counter()
            results = ends(workers, 300 if last else LIMIT)
        for status, output in results:
            # 0: the training was done, and this worker needed nothing more from the other.
            assert status in (0, -9) or (status == 1 and _says_why(output)), output
            assert "Traceback" not in output, output
        if any(status == 1 for status, _ in results):
            slowest = max(slowest, time.perf_counter() - start)
        unfinished = results[0][0] != 0
        if not unfinished:
            assert_same_run(folder / "undisturbed", run)
            finished += 1
    return finished, slowest


def main(argv=None):
    """Command line of `campaign`: prints the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    digits = render_digits(80, seed=7)[0]
    with tempfile.TemporaryDirectory() as folder, private_network() as network:
        np.savez(Path(folder, "digits.npz"), x_train=digits, x_test=digits[:20])
        finished, slowest = campaign(network, Path(folder), options.kills, options.seed)
    print(
        f"{options.kills} kills, {finished} runs finished, all bitwise identical; the remaining worker ended within "
        f"{slowest:.0f} s"
    )


if __name__ == "__main__":
    sys.exit(main())
