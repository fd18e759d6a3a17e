"""Kill trainings at random times, restart them until they finish, and compare with an undisturbed one.

`python tests/campaign_kill.py` trains on built-in digits, without and with exports, and prints the result.
"""

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from conftest import assert_same_run
from zygote import Zygote

from keras_dae.config import RECIPES
from keras_dae.data.digits import render_digits

EPOCHS = 8
TRAINING = ["--epochs", EPOCHS, "--batch-size", 16, "--early-stopping", EPOCHS]


def campaign(zygote, arguments, folder, kills, seed=0):
    """Kill trainings `kills` times in total, at times drawn uniformly over the duration of an undisturbed training.

    Args:
        zygote: `Zygote`.
        arguments: of `keras_dae.train`, except for the output folder.
        folder: folder for the runs.
        kills: how often SIGKILL is sent. After that, an unfinished run may finish.
        seed: of the times.

    Returns:
        the number of finished runs.

    Raises:
        AssertionError: a command failed in another way, or a run differs from the undisturbed one.
    """
    whole = folder / "undisturbed"
    folder.mkdir(exist_ok=True)
    zygote.run("keras_dae.train", *arguments, "--output-dir", folder / "warm-up")
    start = time.perf_counter()
    status, output = zygote.run("keras_dae.train", *arguments, "--output-dir", whole)
    seconds = time.perf_counter() - start
    assert status == 0, output

    moments, killed, finished, unfinished = random.Random(seed), 0, 0, False
    while killed < kills or unfinished:
        run = folder / f"run{finished}"
        after = moments.uniform(0, seconds) if killed < kills else None
        status, output = zygote.run("keras_dae.train", *arguments, "--output-dir", run, kill_after=after)
        assert status in (0, -9), output
        unfinished = status != 0
        killed += unfinished
        if not unfinished:
            assert_same_run(whole, run)
            assert same_files(whole, run)
            finished += 1
    return finished


def same_files(first, second):
    """Return whether two runs have the same files, and the same bytes in their ONNX files and pictures of samples.

    The other files hold times or generated names, which differ from run to run.
    """
    files = [{p.relative_to(run): p.read_bytes() for p in run.rglob("*") if p.is_file()} for run in (first, second)]
    same = [path for path in files[0] if path.suffix == ".onnx" or path.name == "samples.png"]
    return files[0].keys() == files[1].keys() and all(files[0][path] == files[1][path] for path in same)


def main(argv=None):
    """Command line of `campaign`: prints the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=80, help="of trainings")
    parser.add_argument("--export-kills", type=int, default=40, help="of trainings with exports")
    parser.add_argument("--recipe", choices=RECIPES, default="seed", help="photo trains the network unet")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    zygote = Zygote()
    digits = render_digits(80, seed=7)[0]
    for what, kills, extra in (
        ("training", options.kills, ["--no-export"]),
        ("training and exporting", options.export_kills, []),
    ):
        with tempfile.TemporaryDirectory() as folder:
            np.savez(Path(folder, "digits.npz"), x_train=digits, x_test=digits[:20])
            arguments = ["--dataset", Path(folder, "digits.npz"), "--recipe", options.recipe, *TRAINING, *extra]
            start = time.perf_counter()
            finished = campaign(zygote, arguments, Path(folder), kills, options.seed)
            seconds = time.perf_counter() - start
        print(f"{what}: {kills} kills, {finished} runs finished, all bitwise identical ({seconds:.0f} s)", flush=True)
    zygote.close()


if __name__ == "__main__":
    sys.exit(main())
