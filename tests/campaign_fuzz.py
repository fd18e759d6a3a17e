"""Feed damaged files to every reader: `python tests/campaign_fuzz.py --inputs 100000`, or `--engine atheris`.

Each reader runs in a separate process, so that crashes of libraries are noticed, too. Each input is written to the disk
before it is read, and stays there if it breaks the reader. Inputs are mutations of sound files. The engine atheris,
which must be installed, looks for mutations that reach new code.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

import damaged
import numpy as np

PERCENT = {"images": 55, "arrays": 25, "idx": 7, "safetensors": 5, "config": 4, "card": 1, "onnx": 2, "keras": 1}


def main(argv=None):
    """Fuzz every reader and print how many inputs broke it. Returns the exit status: 1 if any did."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=100_000, help="in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--engine", choices=("mutations", "atheris"), default="mutations")
    parser.add_argument("--run", type=Path, help="finished run with model.onnx (a small one is trained)")
    parser.add_argument("--findings", type=Path, default=Path("findings"), help="folder for inputs that broke a reader")
    parser.add_argument("--reader", choices=PERCENT, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.reader:
        return fuzz(options)
    with tempfile.TemporaryDirectory() as folder:
        run = options.run or make_run(Path(folder))
        broken = False
        for reader, percent in PERCENT.items():
            inputs = options.inputs * percent // 100
            command = [sys.executable, __file__, "--reader", reader, "--inputs", inputs, "--seed", options.seed]
            command += ["--engine", options.engine, "--run", run, "--findings", options.findings]
            start = time.perf_counter()
            done = subprocess.run([*map(str, command)], capture_output=True, text=True)
            seconds = time.perf_counter() - start
            broken |= done.returncode != 0
            verdict = "no finding" if done.returncode == 0 else f"BROKEN, status {done.returncode}"
            print(f"{reader}: {inputs:,} inputs, {verdict} ({seconds:.0f} s)", flush=True)
            if done.returncode == 0:  # atheris ends its process before it can do this
                (options.findings / f"{reader}-{options.seed}-current").unlink(missing_ok=True)
            else:
                print(done.stdout[-3000:], done.stderr[-3000:], sep="\n", flush=True)
    return int(broken)


def make_run(folder):
    """Train for a second, and export. Return the run."""
    from export.run import export_run
    from keras_dae.config import TrainConfig
    from keras_dae.data.digits import render_digits
    from keras_dae.train.run import train_and_evaluate

    digits = render_digits(80, seed=7)[0]
    np.savez(folder / "digits.npz", x_train=digits, x_test=digits[:20])
    run = train_and_evaluate(TrainConfig(dataset=str(folder / "digits.npz"), epochs=1, batch_size=16), folder / "run")
    export_run(run, formats=("onnx",))
    return run


def fuzz(options):
    """Fuzz one reader. Keep the inputs that break it, and return 1 if there are any."""
    with instrumented(options.engine):
        from fuzz_targets import Targets

    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        targets = Targets(folder, options.run)
        options.findings.mkdir(exist_ok=True)
        current = options.findings / f"{options.reader}-{options.seed}-current"
        findings = 0

        def attempt(content):
            nonlocal findings
            current.write_bytes(content)
            try:
                targets.functions[options.reader](content)
            except Exception:  # noqa: BLE001 - this is what fuzzing looks for
                findings += 1
                current.rename(options.findings / f"{options.reader}-{options.seed}-{findings}")
                traceback.print_exc()

        seeds = targets.seeds[options.reader]
        if options.engine == "atheris":
            follow(attempt, seeds, options, Path(folder, "corpus"))
        for content in inputs(seeds, options.seed, options.inputs):
            attempt(content)
        current.unlink(missing_ok=True)
    return int(findings > 0)


def instrumented(engine):
    """Return a context manager. While it lasts, atheris instruments imported modules, if it is the engine."""
    if engine != "atheris":
        return contextlib.nullcontext()
    import atheris

    return atheris.instrument_imports(include=["keras_dae", "PIL"])


def inputs(seeds, seed, count):
    """Yield `count` mutations of the seeds. Half of them are mutated more than once."""
    random = np.random.default_rng(seed)
    for _ in range(count):
        content = seeds[random.integers(len(seeds))]
        for _ in range(random.choice((1, 1, 2, 4))):
            _, content = damaged.mutate(content, damaged.KINDS[random.integers(len(damaged.KINDS))], random)
        yield content


def follow(attempt, seeds, options, corpus):
    """Let atheris look for inputs that reach new code. It ends the process."""
    import atheris

    corpus.mkdir()
    for number, content in enumerate(seeds):
        (corpus / str(number)).write_bytes(content)
    atheris.Setup(
        [sys.argv[0], f"-runs={options.inputs}", f"-seed={options.seed + 1}", "-max_len=4096", str(corpus)], attempt
    )
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
