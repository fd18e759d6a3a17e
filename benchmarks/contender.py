"""Contenders that take turns, each in a separate process, so that memory and threads of one do not slow the others.

A contender is a module that calls `serve(measure)`; the benchmark calls `take_turns(contenders, rounds, name)`.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tqdm import tqdm


def add_rounds(parser, default):
    """Add the option `--rounds`, at least 1, to a benchmark's argument parser."""

    def at_least_one(text):
        if not text.isdecimal() or int(text) < 1:
            raise argparse.ArgumentTypeError(f"expected a whole number, at least 1, got {text}")
        return int(text)

    parser.add_argument(
        "--rounds", type=at_least_one, default=default, help="rounds to take medians over (%(default)s)"
    )


def serve(measure):
    """Call `measure()` at each turn; answer with the figures that it returns, and with the peak memory in MiB.

    A turn starts when a line arrives on stdin. Answers go to stdout; everything else that is printed goes to stderr.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for _ in sys.stdin:
        figures = measure()
        figures["peak MiB"] = peak_memory()
        print(json.dumps(figures), file=answers, flush=True)


def peak_memory():
    """Return the peak of this process's resident memory in MiB."""
    # Not ru_maxrss, which includes the parent's memory from before exec.
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024


def take_turns(contenders, rounds, name, warmup=1):
    """Return the figures of all contenders: contender -> figure -> values, one per round.

    Args:
        contenders: name -> arguments of `python -m`. All are started before the first round.
        rounds: number of rounds; in each, every contender measures once.
        name: shown on the progress bar.
        warmup: number of additional rounds at the start whose figures are dropped.

    Raises:
        RuntimeError: a contender failed. The message has its output.
    """
    results = {name: defaultdict(list) for name in contenders}
    with ExitStack() as stack:
        started = {name: stack.enter_context(contender(*arguments)) for name, arguments in contenders.items()}
        for turn in tqdm(range(warmup + rounds), name, disable=None):
            for contender_name, measure in started.items():
                for figure, value in measure().items():
                    if turn >= warmup:
                        results[contender_name][figure].append(value)
    return results


@contextmanager
def contender(*arguments):
    """Run a contender as a process; yield a function that lets it measure once and returns its figures."""
    command = [sys.executable, "-m", *map(str, arguments)]
    with tempfile.TemporaryFile("w+") as stderr:
        process = subprocess.Popen(
            command,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )

        def measure():
            try:
                print(file=process.stdin, flush=True)
                answer = process.stdout.readline()
            except BrokenPipeError:
                answer = ""
            if not answer:
                stderr.seek(0)
                raise RuntimeError(f"{' '.join(command[1:])} failed:\n{stderr.read()[-4000:]}")
            return json.loads(answer)

        try:
            yield measure
        finally:
            process.kill()
            process.communicate()


def ratio(numerators, denominators):
    """Return the median over the rounds of one contender's figure divided by another's in the same round.

    >>> ratio([2.0, 6.0, 3.0], [1.0, 2.0, 3.0])
    2.0
    """
    return statistics.median(a / b for a, b in zip(numerators, denominators, strict=True))
