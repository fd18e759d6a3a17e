"""Denoise folders and Parquet files on a cluster, with Ray Data: `python -m keras_dae.denoise --engine ray`.

Ray Data hands chunks of files to workers, starts the workers, and replaces those that die. Each output is named after
its input and is written atomically. So a chunk may be denoised twice, and after the driver was killed, the outputs
themselves show what is left to do. (The checkpoints of Ray Data would be a second record of that. They also need
output files that Ray names, with rows in any order.)
"""

import csv
import io
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePath

import pyarrow as pa
import pyarrow.parquet as pq
import ray
from pyarrow.fs import FileSystem, FileType

from keras_dae.denoise.denoiser import model_file, open_denoiser
from keras_dae.denoise.files import print_summary
from keras_dae.denoise.notes import FileNote, summarize
from keras_dae.denoise.outputs import FileState, without_finished
from keras_dae.denoise.ray import parquet
from keras_dae.denoise.ray.chunks import chunk_limits, run_chunks
from keras_dae.denoise.ray.cluster import cluster
from keras_dae.denoise.ray.filesystem import MAX_REQUESTS, atomic_stream, is_local, list_states, resolve
from keras_dae.denoise.ray.messages import ImageFailure, image_failure
from keras_dae.denoise.white import White
from keras_dae.denoise.work import Work, check_targets, split_into_chunks, without_outputs
from keras_dae.errors import SomeFailed, UserError, first_line
from keras_dae.images.codec import DENOISABLE_SUFFIXES

INPUT_SUFFIXES = (*DENOISABLE_SUFFIXES, parquet.SUFFIX)
FAILED_TABLE = "failed.csv"


def denoise_on_ray(
    inputs: Iterable[str | os.PathLike],
    model: str | os.PathLike,
    output_dir: str | os.PathLike,
    overwrite: bool = False,
    processes: int | None = None,
    address: str | None = None,
    column: str | None = None,
    white: White = "auto",
) -> tuple[int, int]:
    """Write the denoised versions of image and Parquet files to `output_dir`.

    It works like `keras_dae.denoise.files.denoise_files`, and gives the same pixels. Parquet files keep their names,
    schema and rows, see `keras_dae.denoise.ray.parquet.denoise_parquet`. What failed is also listed in `failed.csv` in
    `output_dir`. The next call tries it again.

    Args:
        inputs: files and folders, by path, or by an address that pyarrow understands, such as s3://bucket/folder. All
            must be on one filesystem.
        model: run folder or .onnx file on this machine, or name, see `keras_dae.denoise.denoiser.load_denoiser`.
        output_dir: folder to write into, by path or address.
        overwrite: whether existing outputs are replaced.
        processes: number of workers, each on one core; None for as many as the cluster has cores.
        address: of a running cluster, as `ray.init` takes it. None starts Ray on this machine while the function runs.
            If this process uses Ray already, `address` is ignored.
        column: of the images in Parquet files, see `keras_dae.denoise.ray.parquet.image_column`.
        white: see `denoise_files`. In Parquet files, it is measured for each image alone.

    Returns:
        `(denoised, kept)`: how many images were denoised, and how many output files existed already.

    Raises:
        UserError: see `denoise_files`; also if there is no such cluster or column, or the cluster cannot run the job.
        SomeFailed: some images could not be read, denoised or written. It is raised at the end.

    Example::

        denoised, kept = denoise_on_ray(["s3://bucket/noisy"], "mnist", "s3://bucket/denoised", address="auto")
    """
    file = model_file(model)
    trained_on = open_denoiser(file, file, threads=1).trained_on  # reports a damaged model before Ray is started
    target, root = resolve(output_dir)
    source, states, works = list_inputs(inputs, root)
    _check_column(source, works, column)
    missing = works if overwrite else _missing(target, root, works, states)
    seconds, denoised = 0.0, 0
    failures: list[ImageFailure] = []
    notes: list[FileNote] = []
    if missing:
        with cluster(address, processes):
            start = time.perf_counter()
            workers = processes or max(1, int(ray.cluster_resources().get("CPU", 1)))
            limits = chunk_limits(len(missing), sum(states[work.source].size for work in missing), workers)
            chunks = split_into_chunks(missing, lambda work: states[work.source].size, *limits)
            denoised, failures, notes = run_chunks(chunks, workers, file.read_bytes(), source, target, column, white)
            seconds = time.perf_counter() - start
        failures += _invisible_outputs(target, missing, failures)
    kept = len(works) - len(missing)
    remarks = summarize(notes, denoised, trained_on)
    print_summary(denoised, kept, [(failure.name, failure.error) for failure in failures], seconds, output_dir, remarks)
    _write_failed_table(target, root / FAILED_TABLE, failures)
    if failures:
        raise SomeFailed(f"{len(failures)} could not be denoised, see above, or {FAILED_TABLE} in {output_dir}")
    return denoised, kept


def list_inputs(
    inputs: Iterable[str | os.PathLike], root: PurePath
) -> tuple[FileSystem, dict[PurePath, FileState], list[Work]]:
    """Return the filesystem of the inputs, `{path: state}`, and the files to denoise, with outputs below `root`.

    Raises:
        UserError: see `denoise_on_ray`.
    """
    filesystem: FileSystem | None = None
    states: dict[PurePath, FileState] = {}
    works: list[Work] = []
    for given in inputs:
        previous, (filesystem, path) = filesystem, resolve(given)
        if previous and previous != filesystem:
            raise UserError(
                f"expected all inputs on one filesystem, got {given} on another; denoise them in separate runs"
            )
        found = list_states(filesystem, path, INPUT_SUFFIXES)
        if found is None:
            raise UserError(f"expected a file or a folder, got {given}, which is not there")
        states |= found
        paths = without_outputs(found, path, root) if is_local(filesystem) and isinstance(root, Path) else found
        works += [Work(file, root / (file.name if file == path else file.relative_to(path))) for file in paths]
    if filesystem is None or not works:
        raise UserError(f"expected images, found none; looked for {', '.join(INPUT_SUFFIXES)}")
    check_targets(works)
    return filesystem, states, works


def _check_column(filesystem: FileSystem, works: Iterable[Work], column: str | None) -> None:
    """Raise `UserError` if the first Parquet file has no such column. Later files are reported like any bad file."""
    first = next((work.source for work in works if parquet.is_parquet(work.source)), None)
    if first:
        try:
            schema = pq.read_schema(filesystem.open_input_file(os.fsencode(first)))
        except (pa.ArrowException, OSError):  # a worker reports it
            return
        parquet.image_column(schema, column)


def _missing(
    filesystem: FileSystem, root: PurePath, works: Sequence[Work], states: Mapping[PurePath, FileState]
) -> list[Work]:
    """Return the files whose outputs are not finished, or are Parquet files with images that failed.

    `states` are those of the inputs.
    """
    # A list, also of a local folder: a shared disk remembers for a while that a file that was asked for is not there.
    existing = list_states(filesystem, root) or {}
    old = [work.target for work in works if work.target in existing and parquet.is_parquet(work.target)]
    with ThreadPoolExecutor(MAX_REQUESTS) as pool:
        failed = pool.map(lambda path: parquet.has_failed_images(filesystem, path), old)
        incomplete = {path for path, has_failed in zip(old, failed) if has_failed}
    missing = set(without_finished(works, states, existing))
    return [work for work in works if work in missing or work.target in incomplete]


def _invisible_outputs(
    filesystem: FileSystem, works: Iterable[Work], failures: Iterable[ImageFailure]
) -> list[ImageFailure]:
    """Return failures for local outputs that are not on this machine, because workers wrote them to other disks."""
    if not is_local(filesystem):
        return []
    error = (
        "the output is not visible on this machine; on a cluster, use a folder that all machines share, or an address"
    )
    known = {failure.file for failure in failures}
    invisible = [image_failure(work.source, error) for work in works if not os.path.exists(work.target)]
    return [failure for failure in invisible if failure.file not in known]


def _write_failed_table(filesystem: FileSystem, path: PurePath, failures: Sequence[ImageFailure]) -> None:
    """Write the table of what failed, atomically. If nothing failed, remove the table of an earlier job."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows([ImageFailure._fields, *failures])
    try:
        if failures:
            with atomic_stream(filesystem, path) as file:
                file.write(text.getvalue().encode())
        elif filesystem.get_file_info(os.fsencode(path)).type == FileType.File:
            filesystem.delete_file(os.fsencode(path))
    except OSError as error:
        raise UserError(f"cannot write {path}: {first_line(error)}") from None
