"""Look for leaks: many trainings and many denoise calls in one process, `python tests/campaign_soak.py --run RUN`.

Prints resident memory, after a garbage collection, and open files over time. The exit status is 1 if memory grows by
more than 5 % in the second half, or a file stays open.
"""

import argparse
import contextlib
import gc
import io
import os
import sys
import tempfile
from pathlib import Path

import numpy as np

MAX_GROWTH = 0.05
MARKS = 10  # how often memory is measured


def main(argv=None):
    """Run the campaign. Returns the exit status: 1 if something grew."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trainings", type=int, default=200, help="of one short epoch each")
    parser.add_argument("--calls", type=int, default=100_000, help="of a denoiser, one image each")
    parser.add_argument("--run", type=Path, required=True, help="finished run with model.onnx")
    options = parser.parse_args(argv)
    grew = soak("denoise calls", options.calls, denoising(options.run))
    with tempfile.TemporaryDirectory() as folder:
        grew |= soak("trainings", options.trainings, training(Path(folder)))
    return int(grew)


def soak(name, count, once):
    """Call `once(number)` `count` times, and print memory and open files meanwhile. Return whether either grew."""
    marks = []
    for number in range(1, count + 1):
        once(number)
        if number % (count // MARKS) == 0:
            gc.collect()
            marks.append((memory(), files()))
            print(f"{name} {number:,}: {marks[-1][0]:.0f} MiB, {marks[-1][1]} open files", flush=True)
    half = marks[len(marks) // 2 - 1]
    growth = marks[-1][0] / half[0] - 1
    print(f"{name}: memory {growth:+.1%} in the second half, open files {marks[-1][1] - half[1]:+}", flush=True)
    return growth > MAX_GROWTH or marks[-1][1] > half[1]


def denoising(run):
    """Return a function that denoises one image. The images have many sizes and types."""
    from keras_dae import load_denoiser

    denoiser = load_denoiser(run)
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (*random.integers(1, 60, 2), 3), np.uint8) for _ in range(50)]
    images += [image[..., 0] for image in images] + [image[..., 0] / 255 for image in images]

    def once(number):
        denoiser(images[number % len(images)])

    return once


def training(folder):
    """Return a function that trains for an epoch without printing anything."""
    from keras_dae import TrainConfig, render_digits, train_and_evaluate

    digits = render_digits(80, seed=7)[0]
    np.savez(folder / "digits.npz", x_train=digits, x_test=digits[:20])

    def once(number):
        config = TrainConfig(dataset=str(folder / "digits.npz"), epochs=1, batch_size=16, seed=number)
        with contextlib.redirect_stdout(io.StringIO()):
            train_and_evaluate(config, folder / "run", overwrite=True)

    return once


def memory():
    """Return this process's resident memory in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def files():
    """Return the number of open files of this process."""
    return len(os.listdir("/proc/self/fd"))


if __name__ == "__main__":
    sys.exit(main())
