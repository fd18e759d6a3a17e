"""`python -m export.serving.ray_app saved_models/RUN`: serve a run on a Ray cluster."""

import argparse
import signal
import sys
from collections.abc import Sequence

from export.serving.ray.app import serving
from export.serving.ray.servable import LABELS
from keras_dae._util.command import prepare_command
from keras_dae.errors import run_command


def parser(prog: str = "python -m export.serving.ray_app") -> argparse.ArgumentParser:
    """Return the argument parser of the command."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Serve a run on a Ray cluster, with the REST and gRPC APIs of TensorFlow Serving, until Ctrl-C.",
    )
    parser.add_argument("run", help="run folder with model.onnx, or the name of a shipped model")
    parser.add_argument("--name", default="denoiser", help="name of the model in requests (default: %(default)s)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8501, help="port for REST (default: %(default)s)")
    parser.add_argument(
        "--grpc-port", type=int, default=8500, help="port for gRPC, or 0 for no gRPC (default: %(default)s)"
    )
    parser.add_argument(
        "--replicas",
        type=int,
        nargs=2,
        metavar=("MIN", "MAX"),
        help="how many replicas run, by load (default: 1, and as many as there are cores)",
    )
    parser.add_argument(
        "--label",
        dest="labels",
        action="append",
        type=_label,
        metavar="LABEL=VERSION",
        help="a label of a version, for requests; may be repeated (default: stable=1 and canary=2)",
    )
    parser.add_argument("--replace", action="store_true", help="replace a model of this name on the cluster")
    parser.add_argument("--address", help="address of a running Ray cluster (default: start Ray on this machine)")
    return parser


def _label(text):
    label, equals, version = text.partition("=")
    if not (label and equals and version.isdecimal()):
        raise argparse.ArgumentTypeError(f"expected LABEL=VERSION, got {text}")
    return label, int(version)


def main(argv: Sequence[str] | None = None, prog: str = "python -m export.serving.ray_app") -> int:
    """Run the command until Ctrl-C. Returns the exit status."""
    prepare_command()
    return run_command(_serve, **vars(parser(prog).parse_args(argv)))


def _serve(name, host, port, labels, **options):
    with serving(name=name, host=host, port=port, labels=dict(labels or LABELS), **options):
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # Ray installed another handler
        print(f"http://{host}:{port}/v1/models/{name} (Ctrl-C ends it)", flush=True)
        while True:
            signal.pause()


if __name__ == "__main__":
    sys.exit(main())
