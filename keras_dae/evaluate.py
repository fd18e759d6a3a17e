"""Measure finished runs on any images: `python -m keras_dae.evaluate saved_models/RUN … --dataset mnist`."""

import argparse
import os
import sys
from pathlib import Path

from keras_dae import errors
from keras_dae.data import load_dataset
from keras_dae.run_folder import load_config


def evaluate(run, **overrides):
    """Return `{"noisy": …, "denoised": …}` of a run's model on noisy test images, see `metrics.mean_metrics`.

    Args:
        run: run folder.
        overrides: fields of `TrainConfig` that differ from the run's own, such as `dataset` or `noise_factor`.

    Raises:
        UserError: no run, or no such images.
    """
    config = load_config(Path(run, "config.json"), **overrides)
    test = load_dataset(config).test

    from keras_dae.metrics import mean_metrics
    from keras_dae.model_file import load_model
    from keras_dae.pipeline import evaluation_images
    from keras_dae.report import denoise

    model = load_model(Path(run, "model.keras"))
    noisy, clean = evaluation_images(test, config)
    return {"noisy": mean_metrics(clean, noisy), "denoised": mean_metrics(clean, denoise(model, noisy))}


def main(argv=None):
    """Command line of `evaluate`: prints a table; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m keras_dae.evaluate", description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folder")
    add = parser.add_argument
    add("--dataset", default=argparse.SUPPRESS, help="test images, as in keras_dae.train (the run's own)")
    add("--data-dir", default=argparse.SUPPRESS, help="folder to look for mnist and fashion_mnist in")
    add("--limit", type=int, default=argparse.SUPPRESS, help="use only so many images")
    options = vars(parser.parse_args(argv))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    runs = options.pop("runs")

    def command():
        print(f"{'':40} {'MSE':>8} {'PSNR/dB':>8} {'SSIM':>6}")
        for run in runs:
            for name, values in evaluate(run, **options).items():
                row = f"{values['mse']:8.5f} {values['psnr']:8.2f} {values['ssim']:6.3f}"
                print(f"{errors.printable(Path(run).name) + ', ' + name:40} {row}")

    return errors.run(command)


if __name__ == "__main__":
    sys.exit(main())
