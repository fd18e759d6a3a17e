"""Workers of one training as processes, in a separate network, because TensorFlow listens on all addresses."""

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from alone import ALONE


@contextmanager
def private_network():
    """Yield a command prefix that runs a command in a new network, which has only a loopback interface.

    Raises:
        OSError: the system does not let this user create a network; the message says why.
    """
    holder = subprocess.Popen(
        [*ALONE, "sh", "-c", "echo up && exec sleep 3600"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        if (answer := holder.stdout.readline().strip()) != "up":
            raise OSError(f"unshare gives no network: {answer}")
        yield ["nsenter", "--target", str(holder.pid), "--user", "--net", "--preserve-credentials"]
    finally:
        holder.kill()
        holder.communicate()


def tf_config(worker, workers=2):
    """Return the TF_CONFIG of one of some workers on this machine."""
    addresses = [f"127.0.0.1:{20_000 + number}" for number in range(workers)]
    return json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": worker}})


def start(network, worker, *arguments):
    """Start a worker, `python arguments`, and return its process, whose stdout has its stderr, too."""
    return subprocess.Popen(
        [*network, sys.executable, *map(str, arguments)],
        env={
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parent.parent),
            "TF_CONFIG": tf_config(worker),
            "TF_CPP_MIN_LOG_LEVEL": "3",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@contextmanager
def training(network, *commands):
    """Start worker 0, 1, … with these commands; yield the processes, and kill them at the end of the block."""
    workers = [start(network, worker, *command) for worker, command in enumerate(commands)]
    try:
        yield workers
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()


def ends(workers, seconds):
    """Return `[(status, output)]` of workers, which must all end within so many seconds."""
    end = time.monotonic() + seconds
    outputs = [worker.communicate(timeout=max(0, end - time.monotonic()))[0] for worker in workers]
    return [(worker.returncode, output) for worker, output in zip(workers, outputs)]
