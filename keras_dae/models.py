"""List the models that come with the package: `python -m keras_dae.models`."""

import argparse
import sys
from collections.abc import Sequence

from keras_dae._util.command import prepare_command
from keras_dae.errors import run_command
from keras_dae.pretrained import MODEL_NAMES, describe_model


def parser(prog: str = "python -m keras_dae.models") -> argparse.ArgumentParser:
    """Return the argument parser of the command."""
    return argparse.ArgumentParser(
        prog=prog,
        description="List the models that come with the package. load_denoiser and denoise --model take their names.",
    )


def main(argv: Sequence[str] | None = None, prog: str = "python -m keras_dae.models") -> int:
    """Print a line for each model. Returns the exit status."""
    prepare_command()
    parser(prog).parse_args(argv)
    return run_command(lambda: print(*map(describe_model, MODEL_NAMES), sep="\n"))


if __name__ == "__main__":
    sys.exit(main())
