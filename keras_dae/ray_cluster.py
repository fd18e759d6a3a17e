"""A Ray cluster at hand: the one that runs at an address, or one that is started on this machine."""

import contextlib
import logging
import socket
from pathlib import Path

import ray
from ray.exceptions import RayError

from keras_dae.errors import UserError
from keras_dae.processes import cores

TIMEOUT = 10  # seconds to reach a cluster


def _reach(address):
    """Raise `UserError` unless something listens at `host:port`: Ray alone would try for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not port.isdecimal():  # such as auto
        return
    try:
        socket.create_connection((host, int(port)), TIMEOUT).close()
    except (OSError, OverflowError) as error:
        raise UserError(f"no Ray cluster can be reached at {address}: {error}") from None


def _last_line(error):
    """Return what it comes down to: Ray puts the worker's traceback into the message."""
    return (str(error).strip() or type(error).__name__).splitlines()[-1]


@contextlib.contextmanager
def cluster(address, processes):
    """Have Ray at hand: as it runs in this process already, at `address`, or on this machine.

    Args:
        address: as `ray.init` takes it, or None.
        processes: cores that Ray started here may use, None for all.

    Raises:
        UserError: no such cluster, or one of another version; a worker that cannot be started.
    """
    if ray.is_initialized():
        yield
        return
    if address:  # its workers run this very code, whatever they have installed
        _reach(address)
        options = {"address": address, "runtime_env": {"py_modules": [str(Path(__file__).parent)]}}
    else:  # within reach of this machine alone: whoever reaches Ray runs code
        options = {"address": "local", "_node_ip_address": "127.0.0.1", "include_dashboard": False}
        options["num_cpus"] = processes or cores()
    logging.getLogger("ray.data.exceptions").setLevel(logging.CRITICAL)  # what it raises is said in a line
    try:
        ray.init(**options, logging_level=logging.WARNING, log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError, RayError) as error:
        hint = "; if it wants a token, set RAY_AUTH_MODE=token" if isinstance(error, ConnectionError) else ""
        raise UserError(
            f"cannot use Ray at {address or 'this machine'}: {' '.join(str(error).split())}{hint}"
        ) from None
    try:
        yield
    except RayError as error:  # no worker could be started, or the cluster is gone
        raise UserError(f"Ray gave up; the same command goes on: {_last_line(error)}") from None
    finally:
        ray.shutdown()
