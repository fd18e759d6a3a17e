"""The console script `keras-dae`, also `python -m keras_dae`: all commands of the package as sub-commands."""

import argparse
import importlib
import sys
from collections.abc import Sequence

from keras_dae._util.command import prepare_command

# Sub-command -> module with its `main`, and what it does. Only the module that is run is imported.
COMMANDS = {
    "train": ("keras_dae.train.__main__", "train, measure and export a denoiser"),
    "denoise": ("keras_dae.denoise.__main__", "denoise image files and folders"),
    "evaluate": ("keras_dae.evaluate.__main__", "measure runs on noisy test images, next to classical methods"),
    "inspect": ("keras_dae.inspect.__main__", "measure the noise of a folder of images, and say how to train"),
    "export": ("export.__main__", "export a run to SavedModel, ONNX, LiteRT, the Hugging Face hub or a web page"),
    "models": ("keras_dae.models", "list the models that come with the package"),
    "torch-weights": ("keras_dae.torch_weights", "convert PyTorch weights to a run and back"),
}


def parser(prog: str = "keras-dae") -> argparse.ArgumentParser:
    """Return the argument parser; each sub-command parses its own arguments."""
    width = max(map(len, COMMANDS)) + 2
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Train an image denoiser in Keras and run it anywhere.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="commands:\n"
        + "".join(f"  {name:{width}}{about}\n" for name, (_, about) in COMMANDS.items())
        + f"\n{prog} COMMAND --help lists the options of a command.",
    )
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="one of the commands below")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="ARGUMENTS", help="arguments of the command")
    return parser


def main(argv: Sequence[str] | None = None, prog: str = "keras-dae") -> int:
    """Run a command; returns its exit status."""
    prepare_command()
    options = parser(prog).parse_args(argv)
    module, _ = COMMANDS[options.command]
    return importlib.import_module(module).main(options.arguments, f"{prog} {options.command}")


if __name__ == "__main__":
    sys.exit(main())
