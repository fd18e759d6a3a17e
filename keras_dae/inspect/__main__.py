"""Measure the noise of a folder of images: `python -m keras_dae.inspect FOLDER`. It does not import TensorFlow."""

import argparse
import json
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from keras_dae._util.command import prepare_command
from keras_dae.errors import SomeFailed, UserError, printable, run_command

PICTURE_SUFFIXES = (".png", ".svg", ".pdf")


def parser(prog: str = "python -m keras_dae.inspect") -> argparse.ArgumentParser:
    """Return the argument parser of the command."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Measure the noise of the images of a folder: its level, its growth with the brightness, and "
        "whether it is independent from pixel to pixel. Say whether a denoiser can be trained from these images alone, "
        "and name the command to run. All levels are on the scale from 0 to 255, where 255 is white, as for --sigma of "
        "the training.",
    )
    add = parser.add_argument
    add("folder", metavar="FOLDER", help="folder of noisy images, searched recursively")
    add(
        "--second-dir",
        metavar="DIR",
        help="folder of a second shot of each scene, with the same file names: the noise is then measured exactly",
    )
    add("--limit", type=int, metavar="N", help="measure only so many images, spread over the folder (default: all)")
    add(
        "--white",
        type=_white,
        default="auto",
        metavar="WHITE",
        help="what is white in 16-bit images: auto (as measured), type (65535), or a number (default: auto)",
    )
    add("--json", action="store_true", help="print the results as JSON; docs/inspect.md lists the keys")
    add(
        "--picture",
        type=_picture,
        metavar="FILE",
        help="write a picture: noise curve, autocorrelation and the flattest blocks (.png, .svg or .pdf)",
    )
    return parser


def _white(text: str) -> str | int:
    if text in ("auto", "type"):
        return text
    if text.isdecimal() and 1 <= int(text) <= 65535:
        return int(text)
    raise argparse.ArgumentTypeError(f"expected auto, type or an integer from 1 to 65535, got {text}")


def _picture(text: str) -> str:
    if text.lower().endswith(PICTURE_SUFFIXES):
        return text
    raise argparse.ArgumentTypeError(f"expected a file name that ends in {', '.join(PICTURE_SUFFIXES)}, got {text}")


def _check_outside(picture: str | None, *folders: str | None) -> None:
    """Raise `UserError` if the picture would lie among the images that are measured, and could replace one."""
    for folder in filter(None, folders):
        if picture and Path(os.path.realpath(picture)).is_relative_to(os.path.realpath(folder)):
            raise UserError(f"expected --picture outside of {folder}, whose images are measured, got {picture}")


def main(argv: Sequence[str] | None = None, prog: str = "python -m keras_dae.inspect") -> int:
    """Run the command. Returns the exit status: 1 if a file could not be measured."""
    prepare_command()
    options = parser(prog).parse_args(argv)

    def command() -> None:
        from keras_dae.inspect.folder import inspect_folder
        from keras_dae.inspect.text import json_of, lines_of
        from keras_dae.inspect.verdict import judge

        _check_outside(options.picture, options.folder, options.second_dir)
        warnings.filterwarnings("ignore", module=r"PIL\.")  # about unusual files; unreadable ones are reported
        report = inspect_folder(options.folder, options.second_dir, options.limit, options.white)
        verdict = judge(report)
        if options.json:
            print(json.dumps(json_of(report, verdict), indent=2, allow_nan=False))
        else:
            print(*map(printable, lines_of(report, verdict)), sep="\n")
        if options.picture:
            from keras_dae.inspect.picture import plot_noise

            plot_noise(options.picture, report)
        if report.skipped:
            print(*map(printable, report.skipped), sep="\n", file=sys.stderr)
            total = report.files + report.copies + report.constant + len(report.skipped)
            raise SomeFailed(f"{len(report.skipped)} of {total} files or pairs could not be measured, see above")

    return run_command(command)


if __name__ == "__main__":
    sys.exit(main())
