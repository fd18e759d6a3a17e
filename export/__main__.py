"""`python -m export saved_models/RUN`: SavedModel and ONNX of a run, each proven before it is put into place."""

import argparse
import os
import sys

from keras_dae import errors


def main(argv=None):
    """Command line of `export_run` and of checking what was exported; returns the exit status.

    0: all is proven; 1: an artefact does not compute what Keras does; 2: a mistake that the user can mend.
    """
    parser = argparse.ArgumentParser(prog="python -m export", description=__doc__)
    parser.add_argument("run", help="run folder, or a .keras file with --output-dir")
    parser.add_argument("--output-dir", help="where to write (the run folder)")
    parser.add_argument("--formats", nargs="+", metavar="FORMAT", help="saved_model, onnx, int8 (all)")
    parser.add_argument(
        "--check", action="store_true", help="export nothing; prove once more what is in the run folder"
    )
    options = parser.parse_args(argv)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

    return errors.run(_check if options.check else _export, options)


def _export(options):
    from export.run import export_run, print_proof

    print_proof(options.output_dir or options.run, export_run(options.run, options.output_dir, options.formats))


def _check(options):
    from export.run import check_run, print_proof

    entries, paths = check_run(options.run, options.formats)
    print_proof(options.run, paths, entries)


if __name__ == "__main__":
    sys.exit(main())
