"""Measure a run on its held-out pairs, as whole images: `python -m benchmarks.held_out_pages RUN NOISY_DIR CLEAN_DIR`.

The files are those that images.csv of the run lists as `test`; metrics.json of the run describes patches of them.
Prints the root mean square error (RMSE, on the scale from 0 to 1) over all pixels, before and after denoising.
"""

import argparse
import csv
from pathlib import Path

import numpy as np

from keras_dae.denoise.denoiser import load_denoiser
from keras_dae.errors import UserError, run_command
from keras_dae.images.read import read_image
from keras_dae.images.unit_range import to_unit


def main(argv=None):
    """Print the figures; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.held_out_pages", description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="run folder with images.csv and model.onnx")
    parser.add_argument("noisy_dir", type=Path, help="the folder of --noisy-dir")
    parser.add_argument("clean_dir", type=Path, help="the folder of --clean-dir")
    return run_command(measure, **vars(parser.parse_args(argv)))


def measure(run, noisy_dir, clean_dir):
    """Print a line for the noisy images and one for the denoised ones."""
    with open(run / "images.csv", newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
    if not rows or "noisy_name" not in rows[0]:
        raise UserError(f"expected a run that was trained on pairs, got {run}")
    denoiser = load_denoiser(run)
    squares, noisy_squares = [], []
    for row in rows:
        noisy = to_unit(read_image(noisy_dir / row["noisy_name"], denoiser.channels))
        clean = to_unit(read_image(clean_dir / row["name"], denoiser.channels))
        noisy_squares.append(np.square(noisy - clean).ravel())
        squares.append(np.square(np.clip(denoiser(noisy), 0, 1) - clean).ravel())
    for name, errors in (("noisy", noisy_squares), ("denoised", squares)):
        print(f"{name}: RMSE {np.concatenate(errors).mean() ** 0.5:.4f} on {len(rows)} images")


if __name__ == "__main__":
    raise SystemExit(main())
