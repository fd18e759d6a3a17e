"""Measure how exact and how fast `keras_dae.inspect` is: `python -m benchmarks.noise_inspection --images FOLDER`.

The images should be clean. They get Gaussian noise of known levels, as floats that are not clipped and as 8-bit files.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from keras_dae.errors import UserError, run_command
from keras_dae.images.find import find_files
from keras_dae.images.read import IMAGE_SUFFIXES, read_image
from keras_dae.inspect.blocks import blocks_of, operator_of
from keras_dae.inspect.level import noise_level

SIGMAS = (2, 5, 10, 15, 25, 50)
SIDE = 1000  # pixels


def main(argv=None):
    """Print both tables; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.noise_inspection", description=__doc__)
    parser.add_argument("--images", required=True, help="folder of clean images")
    parser.add_argument("--channels", type=int, choices=(1, 3), default=1, help="1 for grey, 3 for colour (1)")
    parser.add_argument("--limit", type=int, help="measure only the first images")
    parser.add_argument("--count", type=int, default=100, help="images of one megapixel for the speed (%(default)s)")
    return run_command(measure, **vars(parser.parse_args(argv)))


def measure(images, channels, limit, count):
    """Print the accuracy on the images, and the time for generated ones."""
    clean = [read_image(path, channels) for path in find_files(images, IMAGE_SUFFIXES).files[:limit]]
    if not clean:
        raise UserError(f"expected images in {images}, got none")
    print(f"{len(clean)} images, medians\n")
    print("| true σ | not clipped | as 8-bit files | Immerkær's median over all pixels, not clipped |")
    print("|---|---|---|---|")
    for sigma in SIGMAS:
        noisy = [with_noise(image, sigma, index) for index, image in enumerate(clean)]
        stored = [np.rint(image).clip(0, 255).astype(np.uint8) for image in noisy]
        values = [
            np.median([noise_level(blocks_of(image)) for image in noisy]),
            np.median([noise_level(blocks_of(image)) for image in stored]),
            np.median([immerkaer(image) for image in noisy]),
        ]
        print(f"| {sigma} | {' | '.join(f'{value:.1f}' for value in values)} |", flush=True)
    if count:
        for suffix in (".png", ".jpg"):
            wall, processor = seconds(count, suffix)
            print(f"\n{count} colour images of {SIDE}×{SIDE} pixels, {suffix}: {wall:.1f} s", end="")
            print(f", with {processor:.1f} s of processor time")


def with_noise(image, sigma, index):
    """Return an image in 0 … 255 with Gaussian noise, float32."""
    random = np.random.default_rng([sigma, index])
    return image + np.float32(sigma) * random.standard_normal(image.shape, np.float32)


def immerkaer(image):
    """Return the estimate by the median of the operator over all pixels."""
    return np.median(np.abs(operator_of(np.moveaxis(image, -1, 0)))) / 0.6745


def seconds(count, suffix):
    """Return the seconds of the whole command for generated images, and of all processors together."""
    rows, columns = np.mgrid[:SIDE, :SIDE][..., None] / 60
    with tempfile.TemporaryDirectory() as folder:
        for index in range(count):
            scene = 128 + 60 * np.sin(rows + index) * np.cos(columns + np.arange(3))
            image = with_noise(scene, 10, index).clip(0, 255).astype(np.uint8)
            Image.fromarray(image).save(Path(folder, f"{index:03}{suffix}"), compress_level=1, quality=95)
        start, before = time.perf_counter(), os.times()
        subprocess.run([sys.executable, "-m", "keras_dae.inspect", folder], check=True, stdout=subprocess.DEVNULL)
        after = os.times()
        processor = after.children_user + after.children_system - before.children_user - before.children_system
        return time.perf_counter() - start, processor


if __name__ == "__main__":
    raise SystemExit(main())
