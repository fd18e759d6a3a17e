"""Measure denoisers on noisy test images, beside classical methods: `python -m keras_dae.evaluate RUN …`."""

import argparse
import os
import sys
from pathlib import Path

from keras_dae.config import DATASETS
from keras_dae.errors import run_command
from keras_dae.evaluate.loaders import BACKENDS
from keras_dae.evaluate.measure import evaluate
from keras_dae.noise_names import NOISES


def parser(prog="python -m keras_dae.evaluate"):
    """Return the argument parser of the command."""
    parser = argparse.ArgumentParser(prog=prog, description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folder")
    add = parser.add_argument
    absent = {"default": argparse.SUPPRESS}
    add("--backend", dest="backends", nargs="+", choices=BACKENDS, default=["keras"], help="what to measure (keras)")
    add("--dataset", **absent, help=f"test images: {', '.join(DATASETS)}, a folder, .npz or .npy (the first run's own)")
    add("--data-dir", **absent, help="folder to look for mnist and fashion_mnist in")
    add("--noise", nargs="+", choices=NOISES, **absent, help="several: one drawn for each image (the first run's)")
    add("--noise-factor", dest="noise_factors", nargs="+", type=float, metavar="F", help="levels (the first run's)")
    add("--channels", type=int, choices=(1, 3), **absent, help="for imported weights (1; else the first run's)")
    add("--limit", type=int, **absent, help="use only so many images")
    add("--output-dir", help="folder for the results (RUN/evaluation, of the first run)")
    return parser


def main(argv=None, prog="python -m keras_dae.evaluate"):
    """Command line of `evaluate`: prints a table; returns the exit status."""
    options = vars(parser(prog).parse_args(argv))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

    def command():
        evaluation = evaluate(**options)

        from keras_dae.report.text import remarks, table

        print(table(evaluation), "", *remarks(evaluation), sep="\n")
        print(f"\nwritten to {options['output_dir'] or Path(options['runs'][0], 'evaluation')}")

    return run_command(command)


if __name__ == "__main__":
    sys.exit(main())
