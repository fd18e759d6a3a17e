"""`python -m export saved_models/RUN`: export a run to SavedModel and ONNX, and verify each file before it is kept.

`python -m export web` builds the web page (`export.web`).
"""

import argparse
import sys
from collections.abc import Sequence

from keras_dae._util.command import prepare_command
from keras_dae.errors import UserError, run_command


def parser(prog: str = "python -m export") -> argparse.ArgumentParser:
    """Return the argument parser of the command, without `web`, which has its own."""
    parser = argparse.ArgumentParser(prog=prog, description=__doc__)
    parser.add_argument("run", help="run folder, or a .keras file with --output-dir")
    parser.add_argument("--output-dir", help="where to write (default: the run folder)")
    parser.add_argument(
        "--formats",
        nargs="+",
        metavar="FORMAT",
        help="one or more of saved_model, onnx, int8 and litert (default: the first three); or hf alone, to make a "
        "folder for the Hugging Face hub at --output-dir",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the folder that --formats hf made before")
    parser.add_argument(
        "--check", action="store_true", help="export nothing; verify the exports in the run folder once more"
    )
    return parser


def main(argv: Sequence[str] | None = None, prog: str = "python -m export") -> int:
    """Run the command: `export_run`, `export_hub` or `check_run`. Returns the exit status.

    0: all exports are verified; 1: an export does not compute what Keras computes; 2: a user error.
    """
    prepare_command()
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["web"]:
        from export.web.__main__ import main as web

        return web(argv[1:], f"{prog} web")
    options = parser(prog).parse_args(argv)

    if options.check:
        return run_command(_check, options)
    return run_command(_hub if "hf" in (options.formats or ()) else _export, options)


def _export(options):
    if options.overwrite:
        raise UserError("expected --overwrite with --formats hf only: other exports replace earlier ones in any case")
    from export.run import export_run, print_parity

    print_parity(options.output_dir or options.run, export_run(options.run, options.output_dir, options.formats))


def _hub(options):
    if options.formats != ["hf"] or not options.output_dir:
        raise UserError("expected --formats hf alone, with --output-dir; the other formats go into the run folder")
    from export.run import print_parity
    from export.to_hub import export_hub

    print_parity(options.output_dir, export_hub(options.run, options.output_dir, options.overwrite))


def _check(options):
    if options.output_dir or options.overwrite:
        raise UserError("expected --check without --output-dir and --overwrite: it writes nothing")
    from export.recheck import check_run
    from export.run import print_parity

    entries, paths = check_run(options.run, options.formats)
    print_parity(options.run, paths, entries)


if __name__ == "__main__":
    sys.exit(main())
