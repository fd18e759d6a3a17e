"""A Ray cluster at hand: the one that runs at an address, or one that is started on this machine."""

import contextlib
import logging
import socket
from pathlib import Path

import ray
from ray.exceptions import RayError

from keras_dae._util.threads import cores
from keras_dae.errors import UserError, first_line

TIMEOUT = 10  # seconds to reach a cluster
ALONE = {"_node_ip_address": "127.0.0.1", "include_dashboard": False}  # whoever reaches Ray runs code


@contextlib.contextmanager
def connected(address, **options):
    """Be connected to the Ray cluster at `address` while the block lasts.

    Args:
        address: `host:port`, `ray://host:port` or `auto` of one that runs; `local` starts one.
        options: of `ray.init`.

    Raises:
        UserError: nothing is there, or Ray refuses: another version, no token.
    """
    if address not in ("auto", "local"):  # where nothing listens, Ray would try for a minute and end the process
        host, _, port = address.rpartition("//")[2].rpartition(":")
        if not port.isdecimal():
            raise UserError(f"expected a Ray cluster at {address}: an address is host:port, or auto")
        try:
            socket.create_connection((host, int(port)), TIMEOUT).close()
        except (OSError, OverflowError) as error:
            raise UserError(f"expected a Ray cluster at {address}: {first_line(error)}") from None
    try:
        ray.init(address, log_to_driver=False, **options)
    except Exception as error:  # noqa: BLE001 - Ray raises bare ones, too
        hint = "" if address == "local" else "; if it wants a token, set RAY_AUTH_MODE=token"
        where = "on this machine" if address == "local" else f"at {address}"
        raise UserError(f"cannot use Ray {where}: {' '.join(str(error).split())}{hint}") from None
    try:
        yield
    finally:
        ray.shutdown()


@contextlib.contextmanager
def cluster(address, processes):
    """Have Ray at hand: as it runs in this process already, at `address`, or on this machine.

    Args:
        address: see `connected`; or None.
        processes: cores that Ray started here may use, None for all.

    Raises:
        UserError: no such cluster, or one of another version; a worker that cannot be started.
    """
    if ray.is_initialized():
        yield
        return
    if address:  # its workers run this very code, whatever they have installed
        options = {"runtime_env": {"py_modules": [str(Path(__file__).parents[2])]}}
    else:
        options = {**ALONE, "num_cpus": processes or cores()}
    logging.getLogger("ray.data.exceptions").setLevel(logging.CRITICAL)  # what it raises is said in a line
    with connected(address or "local", logging_level=logging.WARNING, **options):
        try:
            yield
        except RayError as error:  # no worker could be started, or the cluster is gone
            raise UserError(f"Ray gave up; the same command goes on: {reason(error)}") from None


def reason(error):
    """Return what an exception comes down to: Ray puts another process's traceback into the message of its own."""
    lines = str(error).strip().splitlines()
    return lines[-1] if lines and isinstance(error, RayError) else first_line(error)
