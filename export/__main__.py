"""`python -m export saved_models/RUN`: SavedModel and ONNX of a run, each proven before it is put into place."""

import argparse
import os
import sys
from pathlib import Path

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
    from export.run import export_run
    from keras_dae.files import read_json

    paths = export_run(options.run, options.output_dir, options.formats)
    folder = Path(options.output_dir or options.run)
    _report(read_json(folder / "parity.json"), paths)


def _check(options):
    from export.run import check_run

    _report(*check_run(options.run, options.formats))


def _report(entries, paths):
    for name, path in paths.items():
        entry = entries[name]
        if "psnr_lost_db" in entry:
            print(f"{path}: PSNR {entry['psnr_lost_db']:.3f} dB below the float model's")
        elif name == "int8":
            print(f"{path}: within {entry['max_rms_error']:.2g} (root mean square) of Keras on digits")
        else:
            print(f"{path}: equals Keras within {entry['max_abs_error']:.2g} ({entry['tolerance']:g} is allowed)")


if __name__ == "__main__":
    sys.exit(main())
