"""Connect to a Ray cluster that runs at an address, or start Ray on this machine."""

import contextlib
import logging
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from keras_dae._util.environment import environment
from keras_dae._util.threads import cores
from keras_dae.errors import UserError, first_line

CONNECT_TIMEOUT = 10  # seconds
# Options of `ray.init` for a Ray that only this machine can reach. Whoever can reach Ray's ports can run code.
LOOPBACK_ONLY = {"_node_ip_address": "127.0.0.1", "include_dashboard": False}


@contextlib.contextmanager
def connected(address: str, **options: Any) -> Iterator[None]:
    """Connect to a Ray cluster while the block lasts.

    Args:
        address: `host:port` or `ray://host:port` of a running cluster; `auto` finds the one that runs on this machine;
            `local` starts one.
        options: of `ray.init`.

    Raises:
        UserError: no cluster is there, or Ray refuses the connection, for example because of another version or a
            missing token.
    """
    if address not in ("auto", "local"):  # if nothing listens there, Ray tries for a minute and then ends the process
        host, _, port = address.rpartition("//")[2].rpartition(":")
        if not port.isdecimal():
            raise UserError(f"expected a Ray cluster at {address}: an address is host:port, or auto")
        try:
            socket.create_connection((host, int(port)), CONNECT_TIMEOUT).close()
        except (OSError, OverflowError) as error:
            raise UserError(f"expected a Ray cluster at {address}: {first_line(error)}") from None
    try:
        with environment(RAY_USAGE_STATS_ENABLED="0"):  # a Ray that is started here does not report to its makers
            ray.init(address, log_to_driver=False, **options)
    except Exception as error:  # noqa: BLE001 - some of Ray's exceptions have no specific class
        hint = "" if address == "local" else "; if it wants a token, set RAY_AUTH_MODE=token"
        where = "on this machine" if address == "local" else f"at {address}"
        raise UserError(f"cannot use Ray {where}: {' '.join(str(error).split())}{hint}") from None
    try:
        yield
    finally:
        ray.shutdown()


@contextlib.contextmanager
def cluster(address: str | None, processes: int | None) -> Iterator[None]:
    """Use Ray while the block lasts: the Ray that this process uses already, or a cluster, or a new local Ray.

    Args:
        address: of a running cluster, see `connected`; None starts Ray on this machine.
        processes: number of cores that a local Ray may use; None for all.

    Raises:
        UserError: see `connected`; also if the workers cannot be started.
    """
    if ray.is_initialized():
        yield
        return
    if address:  # the workers then run the code of this package, whatever is installed on their machines
        options: dict[str, Any] = {"runtime_env": {"py_modules": [str(Path(__file__).parents[2])]}}
    else:
        options = {**LOOPBACK_ONLY, "num_cpus": processes or cores()}
    logging.getLogger("ray.data.exceptions").setLevel(logging.CRITICAL)  # the error is reported in one line
    with connected(address or "local", logging_level=logging.WARNING, **options):
        try:
            yield
        except RayError as error:  # no worker could be started, or the cluster has gone
            raise UserError(f"Ray gave up; run the same command again to go on: {ray_reason(error)}") from None


def ray_reason(error: BaseException) -> str:
    """Return the line of an exception that says the cause. Ray's messages may begin with another process's traceback.

    Example:
        >>> ray_reason(RayError("Traceback ...\\nValueError: no image")), ray_reason(ValueError("no image"))
        ('ValueError: no image', 'no image')
    """
    lines = str(error).strip().splitlines()
    return lines[-1] if lines and isinstance(error, RayError) else first_line(error)
