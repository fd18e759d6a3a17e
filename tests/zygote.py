"""A Python process that has imported TensorFlow and forks the processes that train and export: this saves seconds.

`python zygote.py` reads one JSON object per line from stdin, `{"module", "arguments", "limit"}`. For each, it forks a
child and prints its process ID. The child runs `main(arguments)` of the module, and can write no file larger than
`limit` bytes, unless that is null. When the child has ended, `{"status", "output"}` is printed; the status is negative
after a signal.
"""

import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path

MODULES = (
    "keras_dae.train.fit",
    "keras_dae.train.results",
    "export.run",
    "export.to_onnx",
    "export.to_saved_model",
    "export.to_int8",
)


def main():
    """Serve jobs until stdin ends."""
    for module in MODULES:
        importlib.import_module(module)
    for line in sys.stdin:
        ours, theirs = os.pipe()
        child = os.fork()
        if not child:
            run(theirs, **json.loads(line))
        os.close(theirs)
        print(child, flush=True)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        # Do not read to the end: a process that the killed child had started may still hold the other end open.
        os.set_blocking(ours, False)
        try:
            output = os.read(ours, 2**16).decode(errors="replace")
        except BlockingIOError:
            output = ""
        os.close(ours)
        print(json.dumps({"status": status, "output": output}), flush=True)


def main_of(module):
    """Return the `main` of a module, or of a package's `__main__`, as `python -m` finds it."""
    found = importlib.import_module(module)
    return (importlib.import_module(f"{module}.__main__") if hasattr(found, "__path__") else found).main


def run(output, module, arguments, limit):
    """Run the command in this process, then exit."""
    for descriptor in (1, 2):
        os.dup2(output, descriptor)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - as long as the process
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    status = 70
    try:
        status = main_of(module)(arguments)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        raise
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


class Zygote:
    """The tests' side: runs commands like `python -m module arguments`, and can kill them."""

    def __init__(self):
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent), "TF_CPP_MIN_LOG_LEVEL": "3"}
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )

    def run(self, module, *arguments, limit=None, kill_after=None, kill_when=None):
        """Run a command and return `(status, output)`.

        Args:
            module, arguments: of the command.
            limit: maximum size in bytes of each file that it writes, or None.
            kill_after: seconds after which it is killed, or None.
            kill_when: function without arguments; the command is killed as soon as it returns true.
        """
        job = {"module": module, "arguments": [*map(str, arguments)], "limit": limit}
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        child = int(self.process.stdout.readline())
        ended = threading.Event()
        if kill_after is not None or kill_when is not None:
            threading.Thread(target=kill, args=(child, ended, kill_after, kill_when)).start()
        done = json.loads(self.process.stdout.readline())
        ended.set()
        return done["status"], done["output"]

    def close(self):
        """End the process."""
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def kill(process, ended, after, when):
    """Send SIGKILL to a process after some seconds, or when a condition holds, unless it has ended before."""
    if after is not None:
        ended.wait(after)
    while when is not None and not when() and not ended.wait(0.002):
        pass
    if not ended.is_set():
        os.kill(process, signal.SIGKILL)


if __name__ == "__main__":
    main()
