"""How fast `python -m keras_dae.denoise` is: with small files, compared with Pillow alone, and with large images.

python -m benchmarks.denoise_speed --model mnist
"""

import argparse
import io
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.contender import add_rounds
from keras_dae._util.threads import cores
from keras_dae.data.digits import render_digits

PROCESSES = cores()
MEGAPIXELS = (1, 4, 16, 100)


def main(argv=None):
    """Print the figures. Pillow and the command take turns, `--rounds` times."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.denoise_speed", description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="run folder, .onnx file or name")
    parser.add_argument("--files", type=int, default=10_000)
    add_rounds(parser, 7)
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        small_files(Path(folder), options)
        first_file(Path(folder), options)
        large_images(Path(folder), options)


def small_files(folder, options):
    """Print files/s of the command, and of Pillow alone, which reads and writes the PNG files in as many processes."""
    noisy = folder / "noisy"
    noisy.mkdir()
    digits = render_digits(1000, seed=0)[0]
    for index in range(options.files):
        Image.fromarray(digits[index % 1000]).save(noisy / f"{index}.png")
    paths = [str(path) for path in noisy.iterdir()]
    chunks = [paths[start : start + 250] for start in range(0, len(paths), 250)]
    rates = {"Pillow alone": [], "denoise": [], "denoise, start-up included": []}
    with get_context("spawn").Pool(PROCESSES) as pool:
        pool.map(copy_with_pillow, [[]] * PROCESSES)  # the processes have started
        for _ in range(options.rounds):
            start = time.perf_counter()
            pool.starmap(copy_with_pillow, [(chunk, str(new_folder(folder))) for chunk in chunks], chunksize=1)
            rates["Pillow alone"].append(len(paths) / (time.perf_counter() - start))
            start = time.perf_counter()
            seconds = denoise(options.model, noisy, new_folder(folder))[0]
            rates["denoise"].append(len(paths) / seconds)
            rates["denoise, start-up included"].append(len(paths) / (time.perf_counter() - start))
    for name, values in rates.items():
        print(f"{len(paths):,} PNG files of 28×28, {name}: {statistics.median(values):,.0f} files/s")
    ratios = [ours / theirs for ours, theirs in zip(rates["denoise"], rates["Pillow alone"])]
    print(f"denoise / Pillow alone: {statistics.median(ratios):.2f}")


def copy_with_pillow(paths, output_dir=""):
    """Decode and encode image files, without denoising them."""
    for path in paths:
        with Image.open(path) as image:
            pixels = np.asarray(image)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        Path(output_dir, os.path.basename(path)).write_bytes(file.getvalue())


def first_file(folder, options):
    """Print the seconds that the command takes for one small image, with the start of its process."""
    source = next((folder / "noisy").iterdir())
    times = []
    for _ in range(options.rounds):
        start = time.perf_counter()
        denoise(options.model, source, new_folder(folder))
        times.append(time.perf_counter() - start)
    print(f"one small file, from start to end of the process: {statistics.median(times):.2f} s")


def large_images(folder, options):
    """Print seconds and peak memory for grey PNGs of 1 to 100 megapixels."""
    random = np.random.default_rng(0)
    for megapixels in MEGAPIXELS:
        side = round((megapixels * 10**6) ** 0.5)
        image = folder / f"{megapixels}.png"
        Image.fromarray(random.integers(0, 256, (side, side), np.uint8)).save(image, compress_level=1)
        seconds, peak = denoise(options.model, image, new_folder(folder))
        print(f"{megapixels} megapixels: {seconds:.2f} s, {seconds / megapixels:.3f} s per megapixel, {peak:.0f} MiB")


def denoise(model, source, output_dir):
    """Run the command. Return the seconds that it reports, which exclude start-up, and its peak memory in MiB."""
    command = [sys.executable, "-c", WITH_PEAK, str(source), "--model", str(model), "--output-dir", str(output_dir)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(re.search(r"denoised in ([\d.]+) s", done.stderr)[1]), float(done.stdout)


WITH_PEAK = """
import resource, sys
from keras_dae.denoise.__main__ import main
if __name__ == "__main__":
    status = main()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    sys.exit(status)
"""


def new_folder(folder):
    """Return a new folder for outputs. It stays, because ext4 is slow to create files after it removed many."""
    return Path(tempfile.mkdtemp(dir=folder))


if __name__ == "__main__":
    main()
