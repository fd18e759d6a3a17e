"""Serve a run with Ray Serve: replicas that have the REST and gRPC APIs of TensorFlow Serving.

`python -m export.serving.ray_app` is the command.
"""

import contextlib
import functools
import importlib.util
import os
import secrets
import socket
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from export.serving.ray.servable import LABELS, MAX_BYTES, Servable
from keras_dae._util.environment import environment, unchanged_environment
from keras_dae._util.threads import cores
from keras_dae.errors import UserError
from keras_dae.pretrained import find_model

GRPC_SERVICES = [
    "tensorflow_serving.apis.prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server",
    "tensorflow_serving.apis.model_service_pb2_grpc.add_ModelServiceServicer_to_server",
]
# For a Ray that is started here; variables that the user has set are kept. Ray has no functions for these settings. A
# test looks for each variable in the installed Ray; they were tried with Ray 2.60 to 2.63.
RAY_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # HAProxy, which comes with ray[serve], forwards requests to the servers in the replicas. It forwards several times
    # as many per second as Serve's own proxy, which is written in Python.
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",  # repeat requests to a replica that died
    # Serve's own choice for high throughput.
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
    "RAY_SERVE_LOG_TO_STDERR": "0",
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "2",  # by default, ending takes half a minute
    # By default 5 and 10 seconds, after which Serve restarts a proxy: on a busy machine again and again.
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "120",
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "60",
    "RAY_SERVE_GRPC_MAX_MESSAGE_SIZE": str(MAX_BYTES),
    "RAY_SERVE_HAPROXY_STATS_PORT": "8404",
    "RAY_SERVE_HAPROXY_METRICS_PORT": "9101",
}
HAPROXY_FILES = {  # by default, they are in a folder that every user can write to
    "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": "haproxy.cfg",
    "RAY_SERVE_HAPROXY_SOCKET_PATH": "admin.sock",
    "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": "",
    "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": "server-state",
    "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": "metrics.sock",
}


@contextlib.contextmanager
def serving(
    run: str,
    name: str = "denoiser",
    host: str = "127.0.0.1",
    port: int = 8501,
    grpc_port: int = 8500,
    replicas: tuple[int, int] | None = None,
    address: str | None = None,
    labels: Mapping[str, int] = LABELS,
    replace: bool = False,
) -> Iterator[None]:
    """Serve a run while the block lasts. The block begins when the replicas answer requests.

    Ray takes its settings from the environment. So without `address`, Ray must not have been imported before. After the
    block, the environment is as it was before.

    Args:
        run: run folder with model.onnx, the same on every node; or the name of a shipped model.
        name: of the model, in requests.
        host: address to listen on.
        port: for REST.
        grpc_port: for gRPC, or 0 for no gRPC. Without gRPC, replicas do not import TensorFlow.
        replicas: minimum and maximum number; None for 1 and the number of cores. Each takes one of Ray's CPUs.
        address: of a running Ray cluster, in the form that `ray.init` takes; None to start Ray on this machine.
        labels: label -> version that requests may ask for.
        replace: whether an application of this name that runs on the cluster is replaced.

    Raises:
        UserError: Ray is missing, the run cannot be loaded, a port is taken, the cluster cannot be reached or is too
            small, or an application of this name runs on it.

    Example::

        with serving("mnist", grpc_port=0):
            requests.get("http://127.0.0.1:8501/v1/models/denoiser")
    """
    if importlib.util.find_spec("ray") is None or importlib.util.find_spec("starlette") is None:
        raise UserError("export.serving.ray_app needs Ray Serve: pip install 'keras_dae[ray]'")
    min_replicas, max_replicas = replicas or (1, cores())
    if not 1 <= min_replicas <= max_replicas:
        raise UserError(f"expected --replicas MIN MAX, both at least 1, MIN first; got {min_replicas} {max_replicas}")
    if port == grpc_port:
        raise UserError(f"expected two ports for REST and gRPC, got {port} for both")
    folder = Path(find_model(run)).resolve()
    Servable(folder, name, labels)  # reports a damaged run before Ray is started
    with contextlib.ExitStack() as stack:
        stack.enter_context(unchanged_environment())  # Ray sets variables of its own, and Python's for debuggers
        if address is None:
            stack.enter_context(_local_ray(host, port, grpc_port, max_replicas))
        else:
            stack.enter_context(_running_cluster(address, min_replicas))
        from export.serving.ray.replica import deploy

        grpc = {"port": grpc_port, "grpc_servicer_functions": GRPC_SERVICES if grpc_port else []}
        http = {"host": host, "port": port}
        stack.enter_context(deploy(str(folder), name, labels, (min_replicas, max_replicas), http, grpc, replace))
        yield


@contextlib.contextmanager
def _local_ray(host: str, port: int, grpc_port: int, cpus: int) -> Iterator[None]:
    """Run a local Ray, which listens on loopback where Ray allows that, while the block lasts."""
    with tempfile.TemporaryDirectory(prefix="keras_dae-") as folder:
        settings = {**RAY_ENVIRONMENT, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": _token()}
        settings |= {variable: value for variable in settings if (value := os.environ.get(variable))}
        files = {variable: str(Path(folder, file)) for variable, file in HAPROXY_FILES.items()}
        _check_free(host, port)
        if grpc_port:
            _check_free(host, grpc_port)
        for variable in ("RAY_SERVE_HAPROXY_STATS_PORT", "RAY_SERVE_HAPROXY_METRICS_PORT"):
            _check_free("", int(settings[variable]), f"set {variable}")
        with environment(**settings, **files):
            from keras_dae.denoise.ray.cluster import LOOPBACK_ONLY, connected

            with connected("local", logging_level="ERROR", num_cpus=max(cpus, cores()), **LOOPBACK_ONLY):
                yield


@functools.cache
def _token() -> str:
    """Return the token of Ray's processes. Ray reads it once in a process, so each process has one.

    Whoever can send a pickle to Ray's processes can run code. Some of them listen on every address.
    """
    return secrets.token_hex(32)


@contextlib.contextmanager
def _running_cluster(address: str, cpus: int) -> Iterator[None]:
    """Stay connected to a running Ray cluster, which must have so many CPUs, while the block lasts."""
    from keras_dae.denoise.ray.cluster import connected

    with connected(address, logging_level="ERROR"):
        import ray

        if ray.cluster_resources().get("CPU", 0) < cpus:
            raise UserError(f"expected a cluster with a CPU for each of {cpus} replicas, got a smaller one")
        yield


def _check_free(host: str, port: int, remedy: str = "give another port") -> None:
    """Raise `UserError` if the port cannot be listened on. An empty host stands for all addresses."""
    if not 0 < port < 2**16:  # getaddrinfo accepts other numbers
        raise UserError(f"expected a port from 1 to 65535, got {port}")
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, _, _, place = found[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
    except (OSError, OverflowError) as error:
        raise UserError(f"cannot listen on {host or '*'}:{port}: {error}; {remedy}") from None
