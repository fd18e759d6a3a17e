"""Time the checks of a large folder of images, at the first start and later: `python -m benchmarks.folder_checks`."""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

MEASURED = """
import sys, time
from keras_dae.config import TrainConfig
from keras_dae.data import image_folder

check_files = image_folder.check_files

def timed(*arguments):
    start = time.perf_counter()
    checks = check_files(*arguments)
    print("seconds", time.perf_counter() - start)
    return checks

image_folder.check_files = timed
from keras_dae.data.load import load_dataset
load_dataset(TrainConfig(dataset=sys.argv[1]))
"""


def make_folder(folder, count):
    """Write `count` noisy images of 32×32 pixels, 1,000 to a subfolder."""
    random = np.random.default_rng(0)
    for index in range(count):
        subfolder = folder / f"{index // 1000:03}"
        subfolder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (32, 32), np.uint8)).save(subfolder / f"{index}.png")


def seconds_of_checks(folder, cache):
    """Load the dataset in a new process with this cache folder; return the seconds that its checks took."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    command = [sys.executable, "-c", MEASURED, str(folder)]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return float(done.stdout.split("seconds")[1])


def main(argv=None):
    """Print the seconds of the first start and of later ones."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.folder_checks", description=__doc__)
    parser.add_argument("--count", type=int, default=20000, help="images (%(default)s)")
    parser.add_argument("--starts", type=int, default=4)
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as work:
        make_folder(Path(work, "images"), options.count)
        seconds = [seconds_of_checks(Path(work, "images"), Path(work, "cache")) for _ in range(options.starts)]
    print(f"{options.count:,} images: {seconds[0]:.1f} s, then {', '.join(f'{value:.1f}' for value in seconds[1:])} s")


if __name__ == "__main__":
    main()
