"""How fast Ray denoises Parquet files, compared with the local engine's processes, and what more machines would need.

python -m benchmarks.ray_speed --output ray_speed.json
"""

import argparse
import contextlib
import functools
import io
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
from PIL import Image
from pyarrow.fs import LocalFileSystem

from benchmarks.contender import add_rounds
from keras_dae._util.json_files import write_json
from keras_dae._util.threads import cores
from keras_dae.data.digits import render_digits
from keras_dae.denoise.batching import denoise_contents
from keras_dae.denoise.denoiser import load_denoiser, model_file
from keras_dae.denoise.process_pool import map_in_processes
from keras_dae.denoise.ray.chunks import run_chunks
from keras_dae.denoise.ray.cluster import cluster
from keras_dae.denoise.ray.filesystem import atomic_stream, list_files
from keras_dae.denoise.ray.job import denoise_on_ray
from keras_dae.denoise.ray.parquet import denoise_parquet
from keras_dae.denoise.work import Work
from keras_dae.images.codec import DENOISABLE_SUFFIXES, decode, encode

DIFFERENT = 10_000  # number of different images; the Parquet files repeat them
TASKS = 400  # of one image each, to measure the cost of a task


def main(argv=None):
    """Print and write the figures. The engines take turns, `--rounds` times."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ray_speed", description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="mnist", help="run folder, .onnx file or name")
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--shards", type=int, default=40)
    add_rounds(parser, 3)
    parser.add_argument("--output", default="ray_speed.json")
    options = parser.parse_args(argv)
    images = noisy_pngs(min(options.images, DIFFERENT))
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        write_shards(folder / "many", images, options.images, options.shards)
        write_shards(folder / "few", images[: cores()], cores(), cores())
        figures = {"cores": cores(), "images": options.images, "shards": options.shards, "ray": ray.__version__}
        figures |= one_core(images[:5000], options.model)
        figures |= listing(folder / "files", images)
        start = time.perf_counter()
        with cluster(address=None, processes=None):
            figures["ray_init_seconds"] = time.perf_counter() - start
            figures |= tasks(folder / "files", options.model)
            figures |= engines(folder, options)
    write_json(options.output, figures)
    for name, value in figures.items():
        print(f"{name}: {value:,.4g}" if isinstance(value, float) else f"{name}: {value}")


def noisy_pngs(count):
    """Return the content of PNG files of noisy digits, 28×28 pixels."""
    digits = render_digits(count, seed=0)[0]
    noise = np.random.default_rng(0).normal(0, 127, digits.shape)
    return [png(image) for image in np.uint8(np.clip(digits + noise, 0, 255))]


def png(pixels):
    """Return an image as the bytes of a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def write_shards(folder, images, count, number):
    """Write `count` images into `number` Parquet files. If there are fewer images, they are repeated."""
    folder.mkdir()
    for shard in range(number):
        rows = range(shard * count // number, (shard + 1) * count // number)
        table = pa.table({"id": rows, "image": [images[row % len(images)] for row in rows]})
        pq.write_table(table, folder / f"{shard:05}.parquet")


def engines(folder, options):
    """Return images/s of both engines, from the difference in time between many images and one image per core.

    The difference leaves out the time that workers take to start.
    """
    seconds = {"local": {"few": [], "many": []}, "ray": {"few": [], "many": []}}
    for _ in range(options.rounds):
        for engine, denoise in (("local", denoise_locally), ("ray", denoise_on_ray_quietly)):
            for size in ("few", "many"):
                with tempfile.TemporaryDirectory(dir=folder) as output:
                    start = time.perf_counter()
                    denoise(folder / size, options.model, Path(output))
                    seconds[engine][size].append(time.perf_counter() - start)
                    assert len(list(Path(output).iterdir())) == len(list((folder / size).iterdir()))
    figures = {}
    for engine, of in seconds.items():
        rates = [options.images / (many - few) for many, few in zip(of["many"], of["few"])]
        figures[f"{engine}_images_per_second"] = statistics.median(rates)
        figures[f"{engine}_images_per_second_rounds"] = rates
        figures[f"{engine}_start_seconds"] = statistics.median(of["few"])
    ratios = [ray / local for ray, local in zip(*(figures[f"{e}_images_per_second_rounds"] for e in ("ray", "local")))]
    return {"ray_to_local": statistics.median(ratios), "ray_to_local_rounds": ratios, **figures}


def denoise_locally(source, model, output):
    """Denoise Parquet files as the Ray engine does, but in the local engine's processes, one per core."""
    works = [Work(path, output / path.name) for path in sorted(source.iterdir())]
    assert not any(error for _, error in map_in_processes(denoiser_of_shards, (model,), works, cores()))


def denoiser_of_shards(model):
    """Return a function that denoises one Parquet file. Each process calls this once."""
    return functools.partial(denoise_shard, load_denoiser(model, threads=1))


def denoise_shard(denoiser, work):
    """Denoise a Parquet file. Return the failures."""
    with open(work.source, "rb") as source, atomic_stream(LocalFileSystem(), work.target) as target:
        return denoise_parquet(denoiser, source, target).failures


def denoise_on_ray_quietly(source, model, output, processes=None):
    """Denoise on Ray, which must be running, without printing the summary."""
    with contextlib.redirect_stderr(io.StringIO()):
        denoise_on_ray([source], model, output, processes=processes)


def one_core(images, model):
    """Return images/s of one thread, the share of decoding and encoding, and bytes per image."""
    denoiser = load_denoiser(model, threads=1)
    list(denoise_contents(denoiser, images[:500]))
    start = time.perf_counter()
    made = list(denoise_contents(denoiser, images))
    seconds = {"all": time.perf_counter() - start}
    start = time.perf_counter()
    decoded = [decode(image) for image in images]
    seconds["decode"] = time.perf_counter() - start
    start = time.perf_counter()
    for kind, pages in decoded:
        encode(kind, pages)
    seconds["encode"] = time.perf_counter() - start
    return {
        "images_per_second_a_core": len(images) / seconds["all"],
        "share_of_decoding": seconds["decode"] / seconds["all"],
        "share_of_encoding": seconds["encode"] / seconds["all"],
        "bytes_in": statistics.mean(map(len, images)),
        "bytes_out": statistics.mean(map(len, made)),
    }


def listing(folder, images):
    """Write each image to a file. Return how many files/s are listed."""
    folder.mkdir()
    for index, image in enumerate(images):
        (folder / f"{index}.png").write_bytes(image)
    start = time.perf_counter()
    found = list_files(LocalFileSystem(), folder, DENOISABLE_SUFFIXES)
    return {"listed_files_per_second": len(found) / (time.perf_counter() - start)}


def tasks(folder, model, workers=1):
    """Return what chunks of one image cost, in seconds.

    `actor_seconds` is the time until each worker has started, loaded the model and denoised one image. `task_seconds`
    is the time for each further image, and `driver_seconds` the processor time of the driver for it.
    """
    files, content, seconds = sorted(folder.iterdir())[:TASKS], model_file(model).read_bytes(), []
    for several in (files[:workers], files):
        with tempfile.TemporaryDirectory() as output:
            chunks = [[Work(file, Path(output, file.name))] for file in several]
            start, computed = time.perf_counter(), time.process_time()
            run_chunks(chunks, workers, content, LocalFileSystem(), LocalFileSystem(), None)
            seconds.append((time.perf_counter() - start, time.process_time() - computed))
    (first, first_computed), (all_, all_computed) = seconds
    count = len(files) - workers
    return {
        "actor_seconds": first,
        "task_seconds": (all_ - first) / count,
        "driver_seconds": (all_computed - first_computed) / count,
    }


if __name__ == "__main__":
    sys.exit(main())
