"""List the models that come with the package: `python -m keras_dae.models`."""

import argparse
import sys

from keras_dae.errors import run_command
from keras_dae.pretrained import NAMES, describe


def parser(prog="python -m keras_dae.models"):
    """Return the argument parser of the command."""
    return argparse.ArgumentParser(
        prog=prog,
        description="List the models that come with the package: for load_denoiser(NAME) and denoise --model NAME.",
    )


def main(argv=None, prog="python -m keras_dae.models"):
    """Print a line for each model; returns the exit status."""
    parser(prog).parse_args(argv)
    return run_command(lambda: print(*map(describe, NAMES), sep="\n"))


if __name__ == "__main__":
    sys.exit(main())
