"""A map over processes in which a death costs only the task it struck, and none outlives its parent."""

import contextlib
import multiprocessing
import signal
import sys
from collections import deque
from multiprocessing.connection import wait

# A new interpreter: threads, such as onnxruntime's, do not survive a fork.
CONTEXT = multiprocessing.get_context("spawn")


def map_in_processes(make, arguments, tasks, count):
    """Yield `(task, result)` as they are done, the results being those of `make(*arguments)(task)`.

    `make` is called once in each of `count` processes. A task whose process died (out of memory, a decoder that
    crashed) has the result None. Leaving the loop early stops all processes.
    """
    tasks, running = deque(tasks), {}

    def go_on(connection, process):
        if tasks:
            running[connection] = process, tasks.popleft()
            with contextlib.suppress(ConnectionError):  # it died meanwhile: then the next `recv` says so
                connection.send(running[connection][1])
        else:
            connection.close()

    try:
        for _ in range(min(count, len(tasks))):
            go_on(*_start(make, arguments))
        while running:
            for connection in wait(list(running)):
                process, task = running.pop(connection)
                try:
                    result = connection.recv()
                except (EOFError, ConnectionError):
                    result = None
                    if tasks:
                        go_on(*_start(make, arguments))
                else:
                    go_on(connection, process)
                yield task, result
    finally:
        for process, _ in running.values():
            process.terminate()
            process.join()


def _start(make, arguments):
    ours, theirs = CONTEXT.Pipe()
    process = CONTEXT.Process(target=_serve, args=(theirs, make, arguments), daemon=True)
    process.start()
    theirs.close()
    return ours, process


def _serve(connection, make, arguments):
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent ends this one
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that temporary files are removed
    function = make(*arguments)
    with contextlib.suppress(EOFError, ConnectionError):  # the parent has no more tasks, or is gone
        while True:
            connection.send(function(connection.recv()))
