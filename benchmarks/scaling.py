"""How long a cluster will take: a simulation with the costs that one machine measures, checked against measured runs.

python -m benchmarks.scaling --output-dir scaling     (scaling.json, scaling.md)

The simulation follows the tasks of a job, one after the other. The driver hands out a task, and a free worker takes it.
The object store reads and writes its bytes, and the worker computes. Whatever is busy all the time is the bottleneck.
"""

import argparse
import heapq
import math
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks.contender import add_rounds
from benchmarks.ray_speed import DIFFERENT, denoise_on_ray_quietly, listing, noisy_pngs, one_core, tasks, write_shards
from benchmarks.summary import number, rows
from keras_dae._util.atomic import atomic_file
from keras_dae._util.json_files import write_json
from keras_dae.denoise.ray.chunks import chunk_limits
from keras_dae.denoise.ray.cluster import cluster

CHECKED_IMAGES, CHECKED = (
    50_000,
    [(1, 10), (1, 200), (2, 10), (2, 200)],
)  # workers, Parquet files of measured runs
PLANNED = (10_000_000, 1_000_000_000)  # images
CORES = (2, 16, 64, 256, 1024)
SHARD_IMAGES = 10_000
CORES_A_MACHINE = 16

# These are assumed, not measured. Amazon's "Best practices design patterns: optimizing Amazon S3 performance" states
# 5,500 GET and 3,500 PUT requests per second and prefix. ListObjectsV2 returns 1,000 names per request, and requests
# follow one another.
MACHINE_BYTES_PER_SECOND = 10e9 / 8  # 10 Gbit/s
STORE_READS, STORE_WRITES = 5500, 3500  # requests/s
STORE_LISTED = 1000 / 0.1  # names/s, at 0.1 s per request


class Costs(NamedTuple):
    """What the parts of a job cost, in seconds unless a comment says otherwise."""

    start: float  # start of Ray
    actor: float  # start of a worker, with its model; all start at the same time
    dispatch: float  # time of the driver for a task
    task: float  # time of a worker for a task, besides its images
    image: float  # time of a worker for an image
    image_bytes: float  # bytes read and written for an image
    listed: float  # files/s
    store_bytes: float = math.inf  # bytes/s of all machines together
    store_files: float = math.inf  # files/s, read and written


class Outcome(NamedTuple):
    """How many seconds a job takes, and for which fraction of that time each part of the system is busy."""

    seconds: float
    busy: dict


def simulate(costs, images, files, tasks, workers):
    """Return the `Outcome` of denoising `images` in as many `files`, in `tasks` of equal size, by `workers` cores."""
    listing = files / costs.listed
    ready = costs.start + listing
    free = [ready + costs.actor] * min(workers, tasks)
    computing = costs.task + images / tasks * costs.image
    moving = max(images / tasks * costs.image_bytes / costs.store_bytes, files / tasks / costs.store_files)
    driver = store = ready
    for _ in range(tasks):
        driver += costs.dispatch
        begun = max(heapq.heappop(free), driver)
        store = max(store, begun) + moving  # the tasks' bytes move one after the other
        heapq.heappush(free, max(begun + computing, store))  # computing and moving overlap
    seconds = max(free)
    busy = {
        "listing": listing,
        "driver": tasks * costs.dispatch,
        "store": tasks * moving,
        "cores": tasks * computing / workers,
        "start": costs.start + costs.actor,
    }
    return Outcome(seconds, {name: spent / seconds for name, spent in busy.items()})


def chunks_of(images, files, workers, bytes_an_image):
    """Return into how many chunks `keras_dae.denoise.ray.job` splits a job. Each is a task of the simulation."""
    bytes_of_all = images * bytes_an_image
    max_files, max_bytes = chunk_limits(files, bytes_of_all, workers)
    return math.ceil(files / max(1, min(max_files, max_bytes * files // bytes_of_all)))


def measured_costs(figures):
    """Return the measured `Costs`, with files on a disk of this machine, whose speed does not limit anything.

    The cost of an image comes from the first measured run. The simulation predicts the others.
    """
    first, task = figures["checked"][0], figures["task_seconds"]
    chunks = chunks_of(CHECKED_IMAGES, first["shards"], first["workers"], figures["bytes_in"])
    return Costs(
        start=figures["ray_init_seconds"],
        actor=figures["actor_seconds"],
        dispatch=figures["driver_seconds"],
        task=task,
        image=(first["seconds"] - figures["actor_seconds"] - chunks * task) / CHECKED_IMAGES,
        image_bytes=figures["bytes_in"] + figures["bytes_out"],
        listed=figures["listed_files_per_second"],
    )


def on_store(costs, workers):
    """Return `costs` with the limits of an object store and of the machines that have so many workers."""
    machines = math.ceil(workers / CORES_A_MACHINE)
    return costs._replace(
        listed=STORE_LISTED,
        store_bytes=machines * MACHINE_BYTES_PER_SECOND,
        store_files=min(STORE_READS, STORE_WRITES),  # inputs and outputs have different prefixes
    )


def check(folder, images, model, rounds):
    """Return the measured runs as a list of `{workers, shards, seconds}`. The seconds are medians of the rounds."""
    for shards in {shards for _, shards in CHECKED}:
        write_shards(folder / str(shards), images, CHECKED_IMAGES, shards)
    seconds = {case: [] for case in CHECKED}
    for _ in range(rounds):
        for workers, shards in CHECKED:
            with tempfile.TemporaryDirectory(dir=folder) as output:
                start = time.perf_counter()
                denoise_on_ray_quietly(folder / str(shards), model, Path(output), workers)
                seconds[workers, shards].append(time.perf_counter() - start)
    return [
        {"workers": workers, "shards": shards, "seconds": statistics.median(times)}
        for (workers, shards), times in seconds.items()
    ]


def scaling_table(figures):
    """Return the figures as Markdown tables: the measured costs, the check of the simulation, and its predictions."""
    costs = measured_costs(figures)
    checked = []
    for case in figures["checked"]:
        workers, shards = case["workers"], case["shards"]
        chunks = chunks_of(CHECKED_IMAGES, shards, workers, figures["bytes_in"])
        simulated = simulate(costs._replace(start=0), CHECKED_IMAGES, shards, chunks, workers).seconds
        checked.append([
            str(workers), str(shards), str(chunks), number(case["seconds"]), number(simulated),
            f"{simulated / case['seconds']:.2f}",
        ])  # fmt: skip
    planned = []
    for images in PLANNED:
        for form, a_file in (("PNG", 1), ("Parquet", SHARD_IMAGES)):
            for workers in CORES:
                files = images // a_file
                chunks = chunks_of(images, files, workers, figures["bytes_in"])
                outcome = simulate(on_store(costs, workers), images, files, chunks, workers)
                name, share = max(outcome.busy.items(), key=lambda item: item[1])
                planned.append([
                    f"{images:,}", form, f"{workers:,}", number(outcome.seconds / 3600),
                    f"{images / outcome.seconds:,.0f}", f"{name}, {share:.0%}",
                ])  # fmt: skip
    measured = [[name.replace("_", " "), number(value)] for name, value in figures.items() if name != "checked"]
    return "\n\n".join([
        rows(["measured on one machine", ""], measured),
        rows(["workers", "files", "chunks", "seconds", "simulated", "ratio"], checked),
        rows(["images", "as", "cores", "hours", "images/s", "busiest"], planned),
    ]) + "\n"  # fmt: skip


def measure(model, rounds):
    """Measure this machine. Return the figures."""
    images = noisy_pngs(DIFFERENT)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        figures = one_core(images[:5000], model) | listing(folder / "files", images)
        start = time.perf_counter()
        with cluster(address=None, processes=None):
            figures["ray_init_seconds"] = time.perf_counter() - start
            figures |= tasks(folder / "files", model)
            return figures | {"checked": check(folder, images, model, rounds)}


def main(argv=None):
    """Measure, simulate, and write scaling.json and scaling.md."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__.splitlines()[0])
    parser.add_argument("--output-dir", required=True)
    parser.add_argument("--model", default="mnist", help="run folder, .onnx file or name (mnist)")
    add_rounds(parser, 3)
    options = parser.parse_args(argv)
    output = Path(options.output_dir)
    output.mkdir(parents=True, exist_ok=True)
    figures = measure(options.model, options.rounds)
    write_json(output / "scaling.json", figures)
    with atomic_file(output / "scaling.md") as temporary:
        Path(temporary).write_text(scaling_table(figures), encoding="utf-8")
    print(scaling_table(figures))


if __name__ == "__main__":
    sys.exit(main())
