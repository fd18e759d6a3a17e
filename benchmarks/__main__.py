"""Compare the speed with the PyTorch original's: `python -m benchmarks --output-dir DIR`.

All contenders of a section take turns, each in its own process. Writes results.json (all figures of every round),
results.md (medians) and results.png. Needs PyTorch: pip install -e '.[bench]'.
"""

import argparse
import importlib.util
import platform
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from benchmarks import inference, large_image, peak, quality, training
from benchmarks.contender import add_rounds, take_turns
from benchmarks.summary import plot, table, threads_name
from keras_dae._util.atomic import atomic_file
from keras_dae._util.json_files import write_json
from keras_dae._util.threads import cores
from keras_dae.errors import UserError, run_command

THREADS = (1, 2)
BATCH_SIZES = (100, 256)
SECTIONS = ("peak", "inference", "fixed_size", "large_image", "training", "quality")


def main(argv=None):
    """Run `measure`; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("--output-dir", required=True, help="folder for results.json, results.md and results.png")
    parser.add_argument("--run", help="run folder with exports (default: one is trained with the recipe quick)")
    parser.add_argument(
        "--only", nargs="+", choices=SECTIONS, default=SECTIONS, metavar="SECTION", help="some of %(choices)s"
    )
    add_rounds(parser, 7)
    options = parser.parse_args(argv)

    def command():
        if missing := [name for name in ("torch", "onnxscript") if importlib.util.find_spec(name) is None]:
            raise UserError(f"expected {' and '.join(missing)} to be installed: pip install -e '.[bench]'")
        measure(Path(options.output_dir), options.run, options.only, options.rounds)

    return run_command(command)


def measure(output_dir, run=None, sections=SECTIONS, rounds=7):
    """Write the results of the sections into `output_dir`, and print them as tables."""
    results = {"machine": machine(), "rounds": rounds}
    write_json(output_dir / "results.json", results)  # raises before anything is measured if it cannot be written
    with tempfile.TemporaryDirectory() as folder:
        if {"inference", "fixed_size", "large_image"} & set(sections):
            prepare(Path(folder), run)
        for section in sections:
            results[section] = {
                name: take_turns(contenders, rounds, name, warmup=0 if section == "quality" else 1)
                for name, contenders in contests(section, folder).items()
            }
            write_json(output_dir / "results.json", results)  # results so far, in case a later section fails
    with atomic_file(output_dir / "results.md") as temporary:
        Path(temporary).write_text(table(results), encoding="utf-8")
    if "inference" in results:
        with atomic_file(output_dir / "results.png") as temporary:
            plot(results, temporary)
    print(table(results))


def contests(section, folder):
    """Return the contests of a section: name -> contender -> arguments of `python -m`."""
    if section == "peak":
        return {
            threads_name(threads): {name: ("benchmarks.peak", name, threads) for name in peak.CONTENDERS}
            for threads in THREADS
        }
    if section == "inference":
        return {
            threads_name(threads): {
                name: ("benchmarks.inference", name, folder, threads) for name in inference.CONTENDERS
            }
            for threads in THREADS
        }
    if section == "fixed_size":
        return {
            threads_name(threads): {
                name: ("benchmarks.inference", name, folder, threads, "fixed")
                for name in inference.FIXED_SIZE_CONTENDERS
            }
            for threads in THREADS
        }
    if section == "large_image":
        names = large_image.CONTENDERS
        return {threads_name(cores()): {name: ("benchmarks.large_image", name, folder) for name in names}}
    if section == "training":
        return {
            f"batch {size}": {name: ("benchmarks.training", name, size) for name in training.CONTENDERS}
            for size in BATCH_SIZES
        }
    return {"MNIST": {name: ("benchmarks.quality", name) for name in quality.CONTENDERS}}


def prepare(folder, run):
    """Write what the inference contenders need into `folder`: the run, its weights for PyTorch, and noisy images."""
    import numpy as np

    from export.artefacts import ARTEFACT_NAMES, DEFAULT_FORMATS
    from keras_dae.config import TrainConfig
    from keras_dae.data.load import load_dataset

    if run is None:
        run = folder / "quick"
        python("keras_dae.train", "--recipe", "quick", "--output-dir", run)
    needed = ("model.keras", *(ARTEFACT_NAMES[name] for name in DEFAULT_FORMATS))
    if missing := [name for name in needed if not Path(run, name).exists()]:
        raise UserError(f"expected a run folder with exports, got {run}, which has no {', '.join(missing)}")
    shutil.copytree(run, folder / "run")
    python("keras_dae.torch_weights", "export", run, folder / "original.safetensors")
    python("benchmarks.torch_original", folder / "original.safetensors", folder / "torch.onnx")
    clean = np.float32(load_dataset(TrainConfig()).test.clean[: max(inference.BATCHES)]) / 255
    noise = np.random.default_rng(0).standard_normal(clean.shape, np.float32)
    np.save(folder / "noisy.npy", np.clip(clean + 0.5 * noise, 0, 1))


def python(module, *arguments):
    """Run `python -m module`. Raises `RuntimeError` with its output if it fails."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[1:])} failed:\n{done.stdout[-4000:]}")


def machine():
    """Return what the results depend on: processor, number of cores, versions."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    packages = ("tensorflow", "keras", "onnxruntime", "torch", "numpy")
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": cores(),
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


if __name__ == "__main__":
    sys.exit(main())
