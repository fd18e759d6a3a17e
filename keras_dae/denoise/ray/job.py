"""Denoise folders and Parquet files on a cluster, with Ray Data: `python -m keras_dae.denoise --engine ray`.

Ray Data hands parts of the work to actors, starts them, replaces those that die and gives their parts to others. An
output is named after its input and appears whole or not at all. So it does no harm that a part is begun twice, and what
is left after the driver was killed is seen from the outputs themselves, as with the local engine. (Ray Data's own
checkpoints keep a second account of that, and need output files with names of Ray's, rows in any order.)
"""

import csv
import io
import os
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import ray
import ray.data
from pyarrow.fs import FileType

from keras_dae.denoise.denoiser import model_file, open_denoiser
from keras_dae.denoise.files import SomeFailed, Work, check_targets, report, split, without_outputs
from keras_dae.denoise.ray import filesystem as storage
from keras_dae.denoise.ray import parquet as shards
from keras_dae.denoise.ray.cluster import cluster
from keras_dae.denoise.ray.worker import Worker, failure
from keras_dae.errors import UserError, first_line
from keras_dae.images.codec import DENOISABLE_SUFFIXES

FORMATS = (*DENOISABLE_SUFFIXES, shards.SUFFIX)
PARTS = 8  # for each worker, if there is work enough, so that all end at about the same time
# What a part has at least, if there is so much, and at most: Ray Data looks every 0.1 s for workers that are done.
FILES, BYTES = (256, 4096), (2**20, 2**23)
RETRIES = 3  # of a part whose worker died; then it is taken to be the fault of something in it
PIECES = 64  # into which such a part is cut, until it is a single file
TABLE = "failed.csv"


def denoise_on_ray(inputs, model, output_dir, overwrite=False, processes=None, address=None, column=None):
    """Write the denoised versions of image and Parquet files below `output_dir`; return `(denoised, kept)`.

    Like `keras_dae.denoise.files.denoise_files`, and with the same pixels. Parquet files keep their names, schema and
    rows; see `keras_dae.denoise.ray.parquet.denoise_shard`. `denoised` is a number of images, `kept` one of files. What
    failed is also listed in `failed.csv` in `output_dir`; the next call tries it again.

    Args:
        inputs: files and folders, by path, or by an address that pyarrow understands, such as s3://bucket/folder; all
            on one filesystem.
        model: run folder or .onnx file on this machine, see `keras_dae.denoise.denoiser.load_denoiser`.
        output_dir: folder to write into, by path or address.
        overwrite: whether existing outputs are replaced.
        processes: that share the work, each on one core; None for as many as the cluster has cores.
        address: of a running cluster, as `ray.init` takes it; None starts Ray on this machine for as long as it takes.
            Where Ray runs in this process already, that is used.
        column: of the images in Parquet files, see `keras_dae.denoise.ray.parquet.image_column`.

    Raises:
        UserError: see `denoise_files`; also: no such cluster, one that cannot run this, no such column.
        SomeFailed: at the end, naming what could not be read, denoised or written.
    """
    file = model_file(model)
    open_denoiser(file, file, threads=1)
    target, root = storage.resolve(output_dir)
    source, sizes, files = plan(inputs, root)
    _check_column(source, files, column)
    missing = files if overwrite else _missing(target, root, files)
    seconds, denoised, failed = 0, 0, []
    if missing:
        with cluster(address, processes):
            start = time.perf_counter()
            workers = processes or max(1, int(ray.cluster_resources().get("CPU", 1)))
            limits = part_limits(len(missing), sum(sizes[work.source] for work in missing), workers)
            parts = split(missing, lambda work: sizes[work.source], *limits)
            denoised, failed = run_parts(parts, workers, file.read_bytes(), source, target, column)
            seconds = time.perf_counter() - start
        failed += _out_of_sight(target, missing, failed)
    kept = len(files) - len(missing)
    report(denoised, kept, [(_name(one), one["error"]) for one in failed], seconds)
    _write_table(target, root / TABLE, failed)
    if failed:
        raise SomeFailed(f"{len(failed)} could not be denoised, see above, or {TABLE} in {output_dir}")
    return denoised, kept


def plan(inputs, root):
    """Return the filesystem of the inputs, path -> bytes, and a list of `Work` with outputs below `root`."""
    filesystem, sizes, files = None, {}, []
    for given in inputs:
        others, (filesystem, path) = filesystem, storage.resolve(given)
        if others and others != filesystem:
            raise UserError(f"expected all inputs in one place, got {given} beside others; denoise them apart")
        found = storage.find(filesystem, path, FORMATS)
        if found is None:
            raise UserError(f"expected a file or a folder, got {given}, which is not there")
        sizes |= found
        is_near = storage.is_local(filesystem) and isinstance(root, Path)
        paths = without_outputs(found, path, root) if is_near else found
        files += [Work(file, root / (file.name if file == path else file.relative_to(path))) for file in paths]
    if not files:
        raise UserError(f"expected images, found none; looked for {', '.join(FORMATS)}")
    check_targets(files)
    return filesystem, sizes, files


def _check_column(filesystem, files, column):
    """Raise `UserError` if the first Parquet file has no such column; later ones are reported like any bad file."""
    first = next((work.source for work in files if shards.is_shard(work.source)), None)
    if first:
        try:
            schema = pa.parquet.read_schema(filesystem.open_input_file(os.fsencode(first)))
        except (pa.ArrowException, OSError):  # reported in the end
            return
        shards.image_column(schema, column)


def _missing(filesystem, root, files):
    """Return the `Work`s whose outputs are not there, or are Parquet files with images that failed."""
    there = storage.find(filesystem, root) or {}
    old = [work.target for work in files if work.target in there and shards.is_shard(work.target)]
    with ThreadPoolExecutor(storage.REQUESTS) as pool:
        failed = pool.map(lambda path: shards.has_failed(filesystem, os.fsencode(path)), old)
        again = {path for path, has_failed in zip(old, failed) if has_failed}
    return [work for work in files if work.target not in there or work.target in again]


def _out_of_sight(filesystem, files, failed):
    """Return failures for outputs that are not here, though some worker wrote them: onto its own machine's disk."""
    if not storage.is_local(filesystem):
        return []
    error = "the output is not to be seen on this machine: on a cluster, all must share the folder, or use an address"
    known = {one["file"] for one in failed}
    unseen = (failure(work.source, error) for work in files if not os.path.exists(work.target))
    return [one for one in unseen if one["file"] not in known]


def part_limits(files, size, workers):
    """Return the most files and bytes in a part of a job of so many: PARTS for each worker, within FILES and BYTES."""
    return tuple(
        min(max(least, amount // (PARTS * workers)), most) for amount, (least, most) in ((files, FILES), (size, BYTES))
    )


def run_parts(parts, workers, model, source, target, column, in_flight=2):
    """Denoise lists of `Work` on Ray, which is running; return a number of images, and RESULT's `failed` of all.

    A part that no worker survives is tried again in pieces: a file that kills costs no other.

    Args:
        parts: lists of `Work`.
        workers: how many at most, each a core.
        model: the bytes of the .onnx file.
        source, target, column: see `keras_dae.denoise.ray.worker.Worker`.
        in_flight: parts that a worker has, or has waiting. With one that kills, those behind it are lost, too.
    """
    done = _map(parts, min(workers, len(parts)), in_flight, (ray.put(model), source, target, column))
    denoised, failed = sum(row["denoised"] for row in done), [one for row in done for one in row["failed"]]
    survived, pieces = {row["part"] for row in done}, []
    for index, part in enumerate(parts):
        if index in survived:
            continue
        if len(part) > 1 or in_flight > 1:
            length = -(-len(part) // PIECES)
            pieces += [part[start : start + length] for start in range(0, len(part), length)]
        else:
            error = f"the worker that had it died {RETRIES + 1} times; was memory short?"
            failed.append(failure(part[0].source, error))
    if pieces:
        more, others = run_parts(pieces, workers, model, source, target, column, in_flight=1)
        denoised, failed = denoised + more, failed + others
    return denoised, failed


def _map(parts, workers, in_flight, arguments):
    """Return the RESULT rows of all parts that a `Worker(*arguments)` survived."""
    tables = [
        pa.table(
            {
                "part": [index] * len(part),
                "source": [os.fsencode(work.source) for work in part],
                "target": [os.fsencode(work.target) for work in part],
            }
        )
        for index, part in enumerate(parts)
    ]
    work = ray.data.from_arrow(tables)
    work.context.max_errored_blocks = -1
    with warnings.catch_warnings():  # until Ray has another name for it
        warnings.filterwarnings("ignore", "`ray_remote_args` is deprecated")
        done = work.map_batches(
            Worker,
            batch_size=None,
            batch_format="pyarrow",
            fn_constructor_args=arguments,
            # With a range of sizes, Ray ends workers that have short tasks.
            compute=ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=in_flight),
            num_cpus=1,
            max_task_retries=RETRIES,
        )
    return [*done.iter_rows()]


def _name(failed):
    return failed["file"] if failed["row"] is None else f"{failed['file']}, row {failed['row']}"


def _write_table(filesystem, path, failed):
    """Write a table of what failed, whole or not at all; if nothing did, an old one goes."""
    if failed:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, ["file", "row", "error"])
        writer.writeheader()
        writer.writerows(failed)
    try:
        if failed:
            with storage.atomic_stream(filesystem, path) as file:
                file.write(text.getvalue().encode())
        elif filesystem.get_file_info(os.fsencode(path)).type == FileType.File:
            filesystem.delete_file(os.fsencode(path))
    except OSError as error:
        raise UserError(f"cannot write {path}: {first_line(error)}") from None
