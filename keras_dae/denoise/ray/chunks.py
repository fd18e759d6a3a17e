"""Have the workers denoise the chunks of a job, whatever crashes."""

import warnings
from collections.abc import Sequence

import ray
import ray.data
from pyarrow.fs import FileSystem

from keras_dae.denoise.notes import FileNote
from keras_dae.denoise.ray.messages import ChunkResult, ImageFailure, chunk_to_table, image_failure, result_from_row
from keras_dae.denoise.ray.worker import Worker
from keras_dae.denoise.white import White
from keras_dae.denoise.work import Work
from keras_dae.errors import UserError

CHUNKS_PER_WORKER = 8  # if the job is large enough, so that all workers end at about the same time
# Ray Data looks only every 0.1 s for workers that are done, so chunks must not be too small.
MIN_CHUNK_FILES, MAX_CHUNK_FILES = 256, 4096
MIN_CHUNK_BYTES, MAX_CHUNK_BYTES = 2**20, 2**23
RETRIES = 3  # of a chunk whose worker died; after that, one of its files is taken to be the cause
PIECES_PER_CHUNK = 64  # into which such a chunk is split


def chunk_limits(files: int, size: int, workers: int) -> tuple[int, int]:
    """Return the maximum number of files and of bytes in a chunk, for a job of so many files and bytes.

    Example:
        >>> chunk_limits(files=100_000, size=50_000_000, workers=10)
        (1250, 1048576)
    """
    chunks = CHUNKS_PER_WORKER * workers
    return (
        min(max(MIN_CHUNK_FILES, files // chunks), MAX_CHUNK_FILES),
        min(max(MIN_CHUNK_BYTES, size // chunks), MAX_CHUNK_BYTES),
    )


def run_chunks(
    chunks: Sequence[list[Work]],
    workers: int,
    model: bytes,
    source: FileSystem,
    target: FileSystem,
    column: str | None,
    white: White,
) -> tuple[int, list[ImageFailure], list[FileNote]]:
    """Denoise chunks of files on Ray, which must be running.

    If a chunk crashes every worker that tries it, it is split into pieces. A piece that crashes them, too, is
    split into single files. So only the file that is the cause fails.

    Args:
        chunks: the files.
        workers: maximum number of workers, each on one core.
        model: content of the .onnx file.
        source, target, column, white: see `keras_dae.denoise.ray.worker.Worker`.

    Returns:
        The number of denoised images, what failed, and notes about the others.
    """
    arguments = (ray.put(model), source, target, column, white)
    denoised, failures, notes = 0, [], []
    for attempt in ("chunks", "pieces", "single files"):
        if attempt == "pieces":
            chunks = [piece for chunk in chunks for piece in _pieces(chunk)]
        elif attempt == "single files":
            chunks = [[work] for chunk in chunks for work in chunk]
        if not chunks:
            break
        # A crash also loses the chunk that waits for the worker. So while looking for the cause, none waits.
        max_in_flight = 2 if attempt == "chunks" else 1
        results = _map_chunks(chunks, min(workers, len(chunks)), max_in_flight, arguments)
        denoised += sum(result.denoised for result in results)
        failures += [failure for result in results for failure in result.failures]
        notes += [note for result in results for note in result.notes]
        survived = {result.chunk for result in results}
        chunks = [chunk for index, chunk in enumerate(chunks) if index not in survived]
        if attempt != "chunks":
            error = f"its worker died {RETRIES + 1} times; was the machine out of memory?"
            failures += [image_failure(chunk[0].source, error) for chunk in chunks if len(chunk) == 1]
            chunks = [chunk for chunk in chunks if len(chunk) > 1]
    return denoised, failures, notes


def _pieces(chunk: list[Work]) -> list[list[Work]]:
    length = -(-len(chunk) // PIECES_PER_CHUNK)
    return [chunk[start : start + length] for start in range(0, len(chunk), length)]


def _map_chunks(chunks: Sequence[list[Work]], workers: int, max_in_flight: int, arguments: tuple) -> list[ChunkResult]:
    """Return the results of the chunks that a `Worker(*arguments)` survived.

    Args:
        chunks: the files.
        workers: number of workers.
        max_in_flight: chunks that a worker has at a time, including those that wait.
        arguments: of `Worker`.

    Raises:
        UserError: a worker cannot denoise anything.
    """
    tables = ray.data.from_arrow([chunk_to_table(index, chunk) for index, chunk in enumerate(chunks)])
    tables.context.max_errored_blocks = -1
    with warnings.catch_warnings():  # Ray has no other name for it yet
        warnings.filterwarnings("ignore", "`ray_remote_args` is deprecated")
        results = tables.map_batches(
            Worker,
            batch_size=None,
            batch_format="pyarrow",
            fn_constructor_args=arguments,
            # With a range of sizes, Ray ends workers whose tasks are short.
            compute=ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=max_in_flight),
            num_cpus=1,
            max_task_retries=RETRIES,
        )
    survived = []
    for row in results.iter_rows():
        survived.append(result_from_row(row))
        if refusal := survived[-1].refusal:
            raise UserError(refusal)
    return survived
