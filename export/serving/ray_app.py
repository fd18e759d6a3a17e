"""Serve a run on a Ray cluster: `python -m export.serving.ray_app saved_models/RUN`."""

import argparse
import signal
import sys

from export.serving.ray.app import serving
from keras_dae.errors import run_command


def parser(prog="python -m export.serving.ray_app"):
    """Return the argument parser of the command."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Serve a run on a Ray cluster, by TensorFlow Serving's REST and gRPC, until Ctrl-C.",
    )
    parser.add_argument("run", help="run folder with model.onnx, or the name of a shipped model")
    parser.add_argument("--name", default="denoiser", help="that requests know the model by (%(default)s)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, default=8501, help="for REST (%(default)s)")
    parser.add_argument("--grpc-port", type=int, default=8500, help="(%(default)s); 0 for no gRPC")
    parser.add_argument("--replicas", type=int, nargs=2, metavar=("MIN", "MAX"), help="(1 and one a core)")
    parser.add_argument("--address", help="of a Ray cluster that runs already (one of its own)")
    return parser


def main(argv=None, prog="python -m export.serving.ray_app"):
    """Command line of `serving`, until Ctrl-C; returns the exit status."""
    return run_command(_serve, **vars(parser(prog).parse_args(argv)))


def _serve(name, host, port, **options):
    with serving(name=name, host=host, port=port, **options):
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # Ray has its own
        print(f"http://{host}:{port}/v1/models/{name} (Ctrl-C ends it)", flush=True)
        while True:
            signal.pause()


if __name__ == "__main__":
    sys.exit(main())
