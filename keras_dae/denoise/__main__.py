"""Denoise images with an exported network: `python -m keras_dae.denoise`. onnxruntime alone, no TensorFlow."""

import argparse
import sys
import warnings

from keras_dae.denoise.denoiser import load_denoiser
from keras_dae.errors import UserError, first_line, run_command
from keras_dae.pretrained import MODEL_NAMES


def _denoise_on_ray():
    try:
        from keras_dae.denoise.ray.job import denoise_on_ray
    except ImportError as error:
        raise UserError(f"--engine ray needs Ray: pip install 'keras_dae[ray]' ({first_line(error)})") from None
    return denoise_on_ray


def parser(prog="python -m keras_dae.denoise"):
    """Return the argument parser of the command."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Denoise image files and folders: PNG, JPEG, TIFF, BMP, .npy and .npz. Each comes out as it went "
        "in: size, mode, depth, name, orientation. `-` reads one file from standard input, writes to standard output.",
    )
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="file, folder (searched recursively), or -")
    parser.add_argument("--model", required=True, help=f"run folder, .onnx file, or {' or '.join(MODEL_NAMES)}")
    parser.add_argument("--output-dir", help="folder to write into, needed unless INPUT is -")
    parser.add_argument("--overwrite", action="store_true", help="replace outputs that are there already")
    parser.add_argument("--processes", type=int, metavar="N", help="that share the work (one a core)")
    parser.add_argument("--engine", choices=("local", "ray"), default="local", help="ray: a cluster, Parquet, s3://…")
    parser.add_argument("--address", help="of a running Ray cluster, or auto; else Ray starts on this machine")
    parser.add_argument("--column", help="of the images in Parquet files, where there are several")
    return parser


def main(argv=None, prog="python -m keras_dae.denoise"):
    """Command line of `denoise_files`, `denoise_on_ray`, `denoise_pipe`: the exit status, 1 if a file failed."""
    command_parser = parser(prog)
    options = command_parser.parse_args(argv)
    if options.processes is not None and options.processes < 1:
        command_parser.error(f"expected --processes of at least 1, got {options.processes}")
    if "-" in options.inputs and (len(options.inputs) > 1 or options.output_dir):
        command_parser.error("expected - alone, without --output-dir")
    if "-" not in options.inputs and not options.output_dir:
        command_parser.error("expected --output-dir")
    if options.engine == "local" and (options.address or options.column):
        command_parser.error("expected --address and --column with --engine ray")
    if options.engine == "ray" and "-" in options.inputs:
        command_parser.error("expected files or folders with --engine ray, got -")

    def command():
        from keras_dae.denoise.files import denoise_files, denoise_pipe

        warnings.filterwarnings("ignore", module=r"PIL\.")  # of odd files; what cannot be read is named in the end
        if options.inputs == ["-"]:
            denoise_pipe(load_denoiser(options.model), sys.stdin.buffer, sys.stdout.buffer)
        elif options.engine == "ray":
            denoise_on_ray = _denoise_on_ray()
            job = (options.inputs, options.model, options.output_dir, options.overwrite, options.processes)
            denoise_on_ray(*job, options.address, options.column)
        else:
            denoise_files(options.inputs, options.model, options.output_dir, options.overwrite, options.processes)

    return run_command(command)


if __name__ == "__main__":
    sys.exit(main())
