"""`python -m export saved_models/RUN`: SavedModel and ONNX of a run, each proven before it is put into place.

`python -m export web` builds the web page (`export.web`).
"""

import argparse
import os
import sys

from keras_dae.errors import UserError, run_command


def parser(prog="python -m export"):
    """Return the argument parser of the command, but for `web`, which has its own."""
    parser = argparse.ArgumentParser(prog=prog, description=__doc__)
    parser.add_argument("run", help="run folder, or a .keras file with --output-dir")
    parser.add_argument("--output-dir", help="where to write (the run folder)")
    parser.add_argument(
        "--formats",
        nargs="+",
        metavar="FORMAT",
        help="saved_model, onnx, int8 (these); litert; or hf alone: a folder for the Hugging Face hub, --output-dir",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the folder of --formats hf")
    parser.add_argument(
        "--check", action="store_true", help="export nothing; prove once more what is in the run folder"
    )
    return parser


def main(argv=None, prog="python -m export"):
    """Command line of `export_run`, of `export_hub` and of checking what was exported; returns the exit status.

    0: all is proven; 1: an artefact does not compute what Keras does; 2: a mistake that the user can mend.
    """
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["web"]:
        from export.web.__main__ import main as web

        return web(argv[1:], f"{prog} web")
    options = parser(prog).parse_args(argv)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

    if options.check:
        return run_command(_check, options)
    return run_command(_hub if "hf" in (options.formats or ()) else _export, options)


def _export(options):
    from export.run import export_run, print_proof

    print_proof(options.output_dir or options.run, export_run(options.run, options.output_dir, options.formats))


def _hub(options):
    if options.formats != ["hf"] or not options.output_dir:
        raise UserError("expected --formats hf alone, with --output-dir; the other formats go into the run")
    from export.run import print_proof
    from export.to_hub import export_hub

    print_proof(options.output_dir, export_hub(options.run, options.output_dir, options.overwrite))


def _check(options):
    from export.run import check_run, print_proof

    entries, paths = check_run(options.run, options.formats)
    print_proof(options.run, paths, entries)


if __name__ == "__main__":
    sys.exit(main())
