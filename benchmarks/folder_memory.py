"""Measure the peak memory of training on small and large folders: `python -m benchmarks.folder_memory`."""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

MEASURED = """
import resource, sys
from keras_dae.train.__main__ import main
status = main(sys.argv[1:])
print("peak MiB", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
sys.exit(status)
"""


def make_folder(folder, count, size):
    """Write `count` grey images of `size`×`size` pixels."""
    folder.mkdir(parents=True)
    y, x = np.mgrid[:size, :size]
    for index in range(count):
        a, b, c, d = np.random.default_rng(index).uniform(-0.2, 0.2, 4)
        picture = 127 + 60 * np.sin(a * y + b * x) + 60 * np.sin(c * y + d * x)
        Image.fromarray(np.uint8(np.clip(picture, 0, 255))).save(folder / f"{index}.png", compress_level=1)


def peak_memory(folder, epochs):
    """Train on `folder` in a new process; return the peak of its resident memory in MiB."""
    with tempfile.TemporaryDirectory() as output:
        options = ["--dataset", folder, "--epochs", epochs, "--output-dir", Path(output, "run")]
        done = subprocess.run(
            [sys.executable, "-c", MEASURED, *map(str, options)], check=True, capture_output=True, text=True
        )
    return int(done.stdout.split("peak MiB")[1])


def main(argv=None):
    """Print the peak memory for each folder, and the ratio of the highest to the lowest."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.folder_memory", description=__doc__)
    parser.add_argument("--counts", type=int, nargs="+", default=[2000, 20000])
    parser.add_argument("--size", type=int, default=128, help="height and width of the images in pixels (%(default)s)")
    parser.add_argument("--epochs", type=int, default=1)
    options = parser.parse_args(argv)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    peaks = []
    with tempfile.TemporaryDirectory() as folder:
        for count in options.counts:
            make_folder(Path(folder, str(count)), count, options.size)
            peaks.append(peak_memory(Path(folder, str(count)), options.epochs))
            print(f"{count:6} images of {options.size}×{options.size}: peak {peaks[-1]} MiB", flush=True)
    print(f"largest / smallest: {max(peaks) / min(peaks):.3f}")


if __name__ == "__main__":
    sys.exit(main())
