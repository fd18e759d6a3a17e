"""Serve a run on a Ray cluster: `python -m export.serving.ray_app saved_models/RUN`.

Replicas behind Ray Serve's proxies, that speak TensorFlow Serving's REST and gRPC.
"""

import argparse
import importlib.util
import os
import signal
import socket
import sys
from pathlib import Path

from keras_dae import errors
from keras_dae.errors import UserError, first_line
from keras_dae.models import find
from keras_dae.processes import cores

APIS = "tensorflow_serving.apis"
SERVICES = (
    f"{APIS}.prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server",
    f"{APIS}.model_service_pb2_grpc.add_ModelServiceServicer_to_server",
)
TIMEOUT = 60.0  # seconds that a request may take, waiting included
MOST_WAITING = 1000  # requests in a proxy; more are answered 503, RESOURCE_EXHAUSTED by gRPC
BUSY = 8  # requests in a replica that call for another one


def start(run, name="denoiser", host="127.0.0.1", port=8501, grpc_port=8500, replicas=(1, None), address=None):
    """Serve a run; return when its replicas answer.

    Args:
        run: run folder with model.onnx, or the name of a shipped model; the same on every node.
        name: that requests know the model by.
        host: address that REST listens on. Unless it is this machine's own, gRPC answers this machine alone.
        port: for REST.
        grpc_port: for gRPC, or 0 for none, and then replicas need no TensorFlow.
        replicas: fewest and most; None for one a core. Each takes one CPU of Ray's.
        address: of the Ray cluster, as `ray.init` has it; None starts one on this machine.

    Raises:
        UserError: Ray is missing, the run cannot be loaded, a port is taken, or the cluster cannot be reached or is too
            small.
    """
    if importlib.util.find_spec("ray") is None or importlib.util.find_spec("starlette") is None:
        raise UserError("export.serving.ray_app needs Ray Serve: pip install 'keras_dae[ray]'")
    from export.serving.servable import MAX_BYTES, Servable

    run = Path(find(run)).resolve()
    Servable(run, name)  # so that what is wrong with it is said at once
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_SERVE_GRPC_MAX_MESSAGE_SIZE", str(MAX_BYTES))
    import ray
    from ray import serve

    least, most = replicas[0], replicas[1] or max(cores(), replicas[0])
    if address:
        _check_reachable(address)
    else:
        _check_free(host, port)
        if grpc_port:
            _check_free("", grpc_port)
    try:
        if address:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        else:
            ray.init(
                "local",
                num_cpus=max(most, cores()),
                include_dashboard=False,
                _node_ip_address="127.0.0.1",
                log_to_driver=False,
                logging_level="ERROR",
            )
        from export.serving.replica import Replica

        quiet = {"log_level": "ERROR", "enable_access_log": False}
        serve.start(
            http_options={"host": host, "port": port, "request_timeout_s": TIMEOUT},
            grpc_options={
                "port": grpc_port,
                "grpc_servicer_functions": list(SERVICES) if grpc_port else [],
                "request_timeout_s": TIMEOUT,
            },
            logging_config=quiet,
        )
        scaling = {"min_replicas": least, "max_replicas": most, "target_ongoing_requests": BUSY}
        app = Replica.options(
            autoscaling_config=scaling,
            max_queued_requests=MOST_WAITING,
            ray_actor_options={"num_cpus": 1},
            logging_config=quiet,
        ).bind(str(run), name, bool(grpc_port), host != "127.0.0.1")
        serve.run(app, name=name)
    except (RuntimeError, ConnectionError, ValueError) as error:
        raise UserError(f"cannot serve: {first_line(error)}") from None


def stop(name, address=None):
    """End what `start` started: on a cluster the model, on this machine Ray itself."""
    import ray
    from ray import serve

    if address:
        serve.delete(name)
    else:
        serve.shutdown()
    ray.shutdown()


def _check_free(host, port):
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            raise UserError(f"cannot listen on {host or '*'}:{port}: {error}; give another port") from None


def _check_reachable(address):
    """Raise `UserError` where nothing listens; Ray itself would try for a minute and end the process."""
    if address == "auto":
        return
    host, _, port = address.rpartition("//")[2].rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, ValueError) as error:
        raise UserError(f"expected a Ray cluster at {address}: {first_line(error)}") from None


def main(argv=None):
    """Command line of `start`: serves until Ctrl-C; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m export.serving.ray_app",
        description="Serve a run on a Ray cluster, by TensorFlow Serving's REST and gRPC, until Ctrl-C.",
    )
    parser.add_argument("run", help="run folder with model.onnx, or the name of a shipped model")
    parser.add_argument("--name", default="denoiser", help="that requests know the model by (%(default)s)")
    parser.add_argument("--host", default="127.0.0.1", help="that REST listens on (%(default)s)")
    parser.add_argument("--port", type=int, default=8501, help="for REST (%(default)s)")
    parser.add_argument("--grpc-port", type=int, default=8500, help="(%(default)s); 0 for no gRPC")
    parser.add_argument("--replicas", type=int, nargs=2, metavar=("MIN", "MAX"), help="(1 and one a core)")
    parser.add_argument("--address", help="of a Ray cluster that runs already (one of its own)")
    options = parser.parse_args(argv)
    return errors.run(_serve, options)


def _serve(options):
    replicas = options.replicas or (1, None)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        start(options.run, options.name, options.host, options.port, options.grpc_port, replicas, options.address)
        print(f"http://{options.host}:{options.port}/v1/models/{options.name} (Ctrl-C ends it)", flush=True)
        while True:
            signal.pause()
    finally:
        stop(options.name, options.address)


if __name__ == "__main__":
    sys.exit(main())
