"""A process pool that survives crashes: only the task of the crashed process fails. Processes end with their parent."""

import contextlib
import multiprocessing
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, TypeVar, cast

from keras_dae.errors import UserError, first_line

# Each process is a new interpreter, because threads, such as onnxruntime's, do not survive a fork.
CONTEXT = multiprocessing.get_context("spawn")
PROCESS_NAME = "keras_dae worker"
NO_GUARD_STATUS = 78  # exit status of a process that ran into `check_not_in_worker`
STARTING = object()  # stands for the task of a process that is not ready yet
READY = "ready"
END_SECONDS = 30  # a process that is still busy so long after SIGTERM is killed

Task = TypeVar("Task")
Result = TypeVar("Result")


def check_not_in_worker() -> None:
    """End this process if it is a worker that is still starting, and has come here through the user's script.

    A new interpreter imports the script that started it. If the script has no `if __name__ == "__main__":`, it starts
    its job again there. Without this check, Python would end the process with a long traceback.
    """
    if multiprocessing.current_process().name == PROCESS_NAME:
        sys.exit(NO_GUARD_STATUS)


def map_in_processes(
    make: Callable[..., Callable[[Task], Result]], arguments: tuple, tasks: Iterable[Task], processes: int
) -> Iterator[tuple[Task, Result | None]]:
    """Yield `(task, result)` for each task, in the order in which they are finished.

    The result of a task is `make(*arguments)(task)`, where `make` is called once in each process. The result is None if
    the process died during the task, for example because it was out of memory. Another process then takes its place.
    Leaving the loop early ends all processes.

    Args:
        make: function of a module; returns the function of tasks.
        arguments: of `make`. They must be small, as a process that ends while it starts does not read them, and
            whoever sends more than a pipe holds would wait for ever.
        tasks: they and their results must be picklable.
        processes: the maximum number of processes at a time.

    Raises:
        UserError: a process could not be started, or `make` raised an exception. No other process is then started.
    """
    check_not_in_worker()
    waiting = deque(tasks)
    running: dict[Connection, tuple[SpawnProcess, Any]] = {}
    try:
        for _ in range(min(processes, len(waiting))):
            _start(running, make, arguments)
        while waiting or any(task is not STARTING for _, task in running.values()):
            for connection in cast(list[Connection], wait(list(running))):
                process, task = running.pop(connection)
                try:
                    answer = connection.recv()
                except (EOFError, ConnectionError):
                    if task is STARTING:
                        raise _not_started(process) from None
                    answer = None
                    if waiting:
                        _start(running, make, arguments)
                else:
                    if task is STARTING and answer != READY:
                        raise UserError(answer)
                    _send_task(running, connection, process, waiting)
                if task is not STARTING:
                    yield task, answer
    finally:
        for connection, (process, _) in running.items():
            process.terminate()
            connection.close()  # a process that has swallowed the exception of SIGTERM ends when it wants a task
        for process, _ in running.values():
            process.join(END_SECONDS)
            process.kill()
            process.join()


def _send_task(running: dict, connection: Connection, process: SpawnProcess, waiting: deque) -> None:
    if waiting:
        running[connection] = process, waiting.popleft()
        with contextlib.suppress(ConnectionError):  # the process has died; the next `recv` raises EOFError
            connection.send(running[connection][1])
    else:
        connection.close()


def _start(running: dict, make: Callable, arguments: tuple) -> None:
    """Start a process, which then says that it is ready."""
    ours, theirs = CONTEXT.Pipe()
    process = CONTEXT.Process(target=_serve, args=(theirs, make, arguments), name=PROCESS_NAME, daemon=True)
    try:
        process.start()
    except OSError as error:
        raise UserError(f"cannot start a process: {error.strerror or error}; give fewer processes") from None
    theirs.close()
    running[ours] = process, STARTING


def _not_started(process: SpawnProcess) -> UserError:
    """Return the error for a process that ended before it was ready."""
    process.join()
    status = process.exitcode or 0
    if status == NO_GUARD_STATUS:
        return UserError(
            'expected the script to do its work below `if __name__ == "__main__":`, because each process imports it; '
            "add that line, or give processes=1"
        )
    if status < 0:
        why = f"was ended by {signal.Signals(-status).name}; was the machine out of memory? Give fewer processes"
    else:
        why = f"ended with status {status}, see its message above; processes=1 does without other processes"
    return UserError(f"expected each process to become ready, but one {why}")


def _serve(connection: Connection, make: Callable, arguments: tuple) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent then ends this one
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # an exception, so that temporary files are removed
    with contextlib.suppress(EOFError, ConnectionError):  # the parent has no more tasks, or has ended
        try:
            function = make(*arguments)
        except Exception as error:  # noqa: BLE001 - whatever it is, the parent reports it
            reason = (
                first_line(error) if isinstance(error, UserError) else f"{type(error).__name__}: {first_line(error)}"
            )
            connection.send(f"a process cannot work: {reason}")
            return
        connection.send(READY)
        while True:
            connection.send(function(connection.recv()))
