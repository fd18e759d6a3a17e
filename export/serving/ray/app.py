"""Serve a run on a Ray cluster: `python -m export.serving.ray_app saved_models/RUN`.

Replicas behind Ray Serve, that speak TensorFlow Serving's REST and gRPC.
"""

import contextlib
import importlib.util
import os
import secrets
import socket
import tempfile
from pathlib import Path

from export.serving.ray.servable import MAX_BYTES, Servable
from keras_dae._util.threads import cores
from keras_dae.errors import UserError
from keras_dae.pretrained import find

SERVICES = [
    "tensorflow_serving.apis.prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server",
    "tensorflow_serving.apis.model_service_pb2_grpc.add_ModelServiceServicer_to_server",
]
ENVIRONMENT = {  # of Ray's processes, where they are started here; what the user has set stays
    "RAY_USAGE_STATS_ENABLED": "0",
    # HAProxy, which comes with ray[serve], hands requests to the replicas' own servers: several times as many as
    # Serve's proxy in Python could.
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",  # what died with a replica; denoising may be repeated
    # What Serve itself chooses for throughput.
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
    "RAY_SERVE_LOG_TO_STDERR": "0",
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "2",  # not half a minute, when all ends
    "RAY_SERVE_GRPC_MAX_MESSAGE_SIZE": str(MAX_BYTES),
    "RAY_SERVE_HAPROXY_STATS_PORT": "8404",
    "RAY_SERVE_HAPROXY_METRICS_PORT": "9101",
}
HAPROXY_FILES = {  # which Ray would put into /tmp/haproxy-serve, for any user to write to
    "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": "haproxy.cfg",
    "RAY_SERVE_HAPROXY_SOCKET_PATH": "admin.sock",
    "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": "",
    "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": "server-state",
    "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": "metrics.sock",
}


@contextlib.contextmanager
def serving(run, name="denoiser", host="127.0.0.1", port=8501, grpc_port=8500, replicas=None, address=None):
    """Serve a run while the block lasts, which begins when its replicas answer.

    Ray's settings are in the environment, so that without `address` Ray must not have been imported before.

    Args:
        run: run folder with model.onnx, the same on every node; or the name of a shipped model.
        name: that requests know the model by.
        host: address to listen on.
        port: for REST.
        grpc_port: for gRPC, or 0 for none, and then replicas need no TensorFlow.
        replicas: fewest and most; None for one up to one a core. Each takes one CPU of Ray's.
        address: of a Ray cluster that runs already, as `ray.init` has it; None starts one on this machine.

    Raises:
        UserError: Ray is missing, the run cannot be loaded, a port is taken, or the cluster cannot be reached or is
            too small.
    """
    if importlib.util.find_spec("ray") is None or importlib.util.find_spec("starlette") is None:
        raise UserError("export.serving.ray_app needs Ray Serve: pip install 'keras_dae[ray]'")
    least, most = replicas or (1, cores())
    if not 1 <= least <= most:
        raise UserError(f"expected --replicas MIN MAX of at least 1, ascending; got {least} {most}")
    if port == grpc_port:
        raise UserError(f"expected two ports for REST and gRPC, got {port} for both")
    run = Path(find(run)).resolve()
    Servable(run, name)  # so that what is wrong with it is said at once
    with contextlib.ExitStack() as stack:
        stack.enter_context(_ray_here(host, port, grpc_port, most) if address is None else _ray_there(address, least))
        from export.serving.ray.replica import deploy

        grpc = {"port": grpc_port, "grpc_servicer_functions": SERVICES if grpc_port else []}
        stack.enter_context(deploy(str(run), name, (least, most), {"host": host, "port": port}, grpc))
        yield


@contextlib.contextmanager
def _ray_here(host, port, grpc_port, cpus):
    """Run a Ray of our own, of this machine alone, while the block lasts."""
    with tempfile.TemporaryDirectory(prefix="keras_dae-") as folder:
        os.environ |= {variable: str(Path(folder, file)) for variable, file in HAPROXY_FILES.items()}
        # Ray's processes listen for pickles, some of them on every address.
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        for variable, value in {**ENVIRONMENT, **token}.items():
            os.environ.setdefault(variable, value)
        _check_free(host, port)
        if grpc_port:
            _check_free(host, grpc_port)
        for variable in ("RAY_SERVE_HAPROXY_STATS_PORT", "RAY_SERVE_HAPROXY_METRICS_PORT"):
            _check_free("", int(os.environ[variable]), f"set {variable}")
        from keras_dae.denoise.ray.cluster import ALONE, connected

        with connected("local", logging_level="ERROR", num_cpus=max(cpus, cores()), **ALONE):
            yield


@contextlib.contextmanager
def _ray_there(address, cpus):
    """Be connected to a Ray cluster while the block lasts."""
    from keras_dae.denoise.ray.cluster import connected

    with connected(address, logging_level="ERROR"):
        import ray

        if ray.cluster_resources().get("CPU", 0) < cpus:
            raise UserError(f"expected a cluster with a CPU for each of {cpus} replicas, got a smaller one")
        yield


def _check_free(host, port, remedy="give another port"):
    if not 0 < port < 2**16:  # getaddrinfo takes others, too
        raise UserError(f"expected a port from 1 to 65535, got {port}")
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, _, _, place = found[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
    except (OSError, OverflowError) as error:
        raise UserError(f"cannot listen on {host or '*'}:{port}: {error}; {remedy}") from None
