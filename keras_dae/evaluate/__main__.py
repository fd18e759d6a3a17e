"""Measure denoisers on noisy test images, next to classical methods: `python -m keras_dae.evaluate RUN …`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from keras_dae._util.command import prepare_command
from keras_dae.config import DATASETS, white
from keras_dae.errors import run_command
from keras_dae.evaluate.loaders import BACKENDS
from keras_dae.evaluate.measure import evaluate
from keras_dae.noise_names import NOISES, sigma


def parser(prog: str = "python -m keras_dae.evaluate") -> argparse.ArgumentParser:
    """Return the argument parser of the command."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Measure denoisers on noisy test images, next to classical methods.",
        argument_default=argparse.SUPPRESS,  # options that are not given stay those of the first run
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folder")
    add = parser.add_argument
    names = ", ".join(DATASETS)
    add("--backend", dest="backends", nargs="+", choices=BACKENDS, default=["keras"], help="what to measure (keras)")
    add("--dataset", help=f"test images: {names}, a folder, .npz or .npy (default: the first run's)")
    add("--noisy-dir", help="test images: folder of real noisy images, with --clean-dir")
    add("--clean-dir", help="folder of the same images without noise")
    add("--white", type=white, help="16-bit images: auto, type, or the number that becomes 1 (the first run's)")
    add("--data-dir", help="folder to look for mnist and fashion_mnist in first")
    add("--noise", nargs="+", choices=NOISES, help="if several, each image gets one of them (the first run's)")
    level = parser.add_mutually_exclusive_group()
    level.add_argument(
        "--noise-factor",
        dest="noise_factors",
        nargs="+",
        type=float,
        metavar="F",
        help="levels to measure (the first run's)",
    )
    level.add_argument(
        "--sigma", dest="noise_factors", nargs="+", type=sigma, metavar="S", help="levels on the scale from 0 to 255"
    )
    add("--clip", action=argparse.BooleanOptionalAction, help="clip noisy values to [0, 1] (as for the first run)")
    add("--bm3d", action="store_true", default=False, help="measure BM3D, too: slow, pip install 'keras_dae[bm3d]'")
    add("--channels", type=int, choices=(1, 3), help="1 or 3 (the first run's; 1 for imported weights)")
    add("--limit", type=int, help="use only so many images")
    add("--output-dir", default=None, help="folder for the results (the folder evaluation in the first run)")
    add("--overwrite", action="store_true", default=False, help="replace the results of an earlier evaluation")
    return parser


def main(argv: Sequence[str] | None = None, prog: str = "python -m keras_dae.evaluate") -> int:
    """Run `evaluate` and print a table; return the exit status."""
    prepare_command()
    options = vars(parser(prog).parse_args(argv))

    def command():
        evaluation = evaluate(**options)

        from keras_dae.report.text import remarks, results_table

        print(results_table(evaluation), "", *remarks(evaluation), sep="\n")
        print(f"\nwritten to {options['output_dir'] or Path(options['runs'][0], 'evaluation')}")

    return run_command(command)


if __name__ == "__main__":
    sys.exit(main())
