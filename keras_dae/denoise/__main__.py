"""Denoise images with an exported network: `python -m keras_dae.denoise`. It does not import TensorFlow."""

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import cast

from keras_dae._util.command import prepare_command
from keras_dae.denoise.denoiser import load_denoiser
from keras_dae.denoise.white import White
from keras_dae.errors import UserError, first_line, run_command
from keras_dae.pretrained import MODEL_NAMES

OUTPUT_DIR = "denoised"


def _import_denoise_on_ray() -> Callable[..., tuple[int, int]]:
    try:
        from keras_dae.denoise.ray.job import denoise_on_ray
    except ImportError as error:
        raise UserError(f"--engine ray needs Ray: pip install 'keras_dae[ray]' ({first_line(error)})") from None
    return denoise_on_ray


def parser(prog: str = "python -m keras_dae.denoise") -> argparse.ArgumentParser:
    """Return the argument parser of the command."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Denoise image files and folders: PNG, JPEG, TIFF, BMP, WebP, .npy and .npz. Each output has the "
        "name, size, mode, depth and orientation of its input. If INPUT is -, one file is read from standard input, "
        "and the result is written to standard output.",
    )
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="file, folder (searched recursively), or -")
    parser.add_argument("--model", required=True, help=f"run folder, .onnx file, or {' or '.join(MODEL_NAMES)}")
    parser.add_argument("--output-dir", metavar="DIR", help=f"folder to write into (default: {OUTPUT_DIR})")
    parser.add_argument("--overwrite", action="store_true", help="replace existing outputs")
    parser.add_argument(
        "--white",
        type=_white,
        default="auto",
        metavar="WHITE",
        help="the integer that is white: type for the largest value of a file's type, or a number, such as 4095 for 12 "
        "bits in 16; auto measures files of 16 bits whose upper half is not used, and says so (default: auto)",
    )
    parser.add_argument("--processes", type=int, metavar="N", help="processes or Ray workers (default: one per core)")
    parser.add_argument(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="ray for a cluster, for Parquet files and for s3://… (default: local)",
    )
    parser.add_argument(
        "--address", help="address of a running Ray cluster, or auto (default: start Ray on this machine)"
    )
    parser.add_argument("--column", help="column of the images in Parquet files, needed if several could be meant")
    return parser


def _white(text: str) -> White:
    if text in ("auto", "type"):
        return cast(White, text)
    if text.isdecimal() and int(text) >= 1:
        return int(text)
    raise argparse.ArgumentTypeError(f"expected auto, type or an integer of at least 1, got {text}")


def main(argv: Sequence[str] | None = None, prog: str = "python -m keras_dae.denoise") -> int:
    """Run the command. Returns the exit status: 1 if a file failed."""
    prepare_command()
    command_parser = parser(prog)
    options = command_parser.parse_args(argv)
    if options.processes is not None and options.processes < 1:
        command_parser.error(f"expected --processes of at least 1, got {options.processes}")
    if "-" in options.inputs and (len(options.inputs) > 1 or options.output_dir is not None):
        command_parser.error("expected - alone, without --output-dir")
    if options.engine == "local" and (options.address or options.column):
        command_parser.error("expected --address and --column with --engine ray")
    if options.engine == "ray" and "-" in options.inputs:
        command_parser.error("expected files or folders with --engine ray, got -")

    def command():
        from keras_dae.denoise.files import denoise_files, denoise_pipe

        warnings.filterwarnings(
            "ignore", module=r"PIL\."
        )  # about unusual files; files that cannot be read are reported
        if options.inputs == ["-"]:
            if sys.stdout.name == os.devnull:  # as `prepare_command` replaces a closed stream
                raise UserError("expected an open standard output for the image, got a closed one")
            denoise_pipe(load_denoiser(options.model), sys.stdin.buffer, sys.stdout.buffer, options.white)
            return
        output_dir = OUTPUT_DIR if options.output_dir is None else options.output_dir
        job = (options.inputs, options.model, output_dir, options.overwrite, options.processes)
        if options.engine == "ray":
            denoise_on_ray = _import_denoise_on_ray()
            denoise_on_ray(*job, options.address, options.column, options.white)
        else:
            denoise_files(*job, options.white)

    return run_command(command)


if __name__ == "__main__":
    sys.exit(main())
