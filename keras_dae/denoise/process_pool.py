"""A process pool that survives crashes: only the task of the crashed process fails. Processes end with their parent."""

import contextlib
import multiprocessing
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import TypeVar, cast

# Each process is a new interpreter, because threads, such as onnxruntime's, do not survive a fork.
CONTEXT = multiprocessing.get_context("spawn")

Task = TypeVar("Task")
Result = TypeVar("Result")


def map_in_processes(
    make: Callable[..., Callable[[Task], Result]], arguments: tuple, tasks: Iterable[Task], processes: int
) -> Iterator[tuple[Task, Result | None]]:
    """Yield `(task, result)` for each task, in the order in which they are finished.

    The result of a task is `make(*arguments)(task)`, where `make` is called once in each process. The result is None if
    the process died during the task, for example because it was out of memory. Another process then takes its place.
    Leaving the loop early ends all processes.

    Args:
        make: function of a module; returns the function of tasks.
        arguments: of `make`.
        tasks: they and their results must be picklable.
        processes: the maximum number of processes at a time.
    """
    waiting, running = deque(tasks), {}

    def send_task(connection: Connection, process: SpawnProcess) -> None:
        if waiting:
            running[connection] = process, waiting.popleft()
            with contextlib.suppress(ConnectionError):  # the process has died; the next `recv` raises EOFError
                connection.send(running[connection][1])
        else:
            connection.close()

    try:
        for _ in range(min(processes, len(waiting))):
            send_task(*_start(make, arguments))
        while running:
            for connection in cast(list[Connection], wait(list(running))):
                process, task = running.pop(connection)
                try:
                    result = connection.recv()
                except (EOFError, ConnectionError):
                    result = None
                    if waiting:
                        send_task(*_start(make, arguments))
                else:
                    send_task(connection, process)
                yield task, result
    finally:
        for process, _ in running.values():
            process.terminate()
            process.join()


def _start(make: Callable, arguments: tuple) -> tuple[Connection, SpawnProcess]:
    """Start a process; return the connection to it, and the process."""
    ours, theirs = CONTEXT.Pipe()
    process = CONTEXT.Process(target=_serve, args=(theirs, make, arguments), daemon=True)
    process.start()
    theirs.close()
    return ours, process


def _serve(connection: Connection, make: Callable, arguments: tuple) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent then ends this one
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # an exception, so that temporary files are removed
    function = make(*arguments)
    with contextlib.suppress(EOFError, ConnectionError):  # the parent has no more tasks, or has ended
        while True:
            connection.send(function(connection.recv()))
