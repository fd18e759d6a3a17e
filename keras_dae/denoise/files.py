"""Denoise files and folders on all cores of this machine, or one file from a pipe."""

import functools
import hashlib
import os
import sys
import time
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from multiprocessing import current_process
from pathlib import Path
from typing import Any, BinaryIO

from keras_dae._util.progress import ProgressBar
from keras_dae._util.threads import cores
from keras_dae.denoise.batching import Failed, denoise_contents
from keras_dae.denoise.chunk import ChunkOutcome, Failure, denoise_chunk
from keras_dae.denoise.denoiser import Denoiser, model_file, open_denoiser
from keras_dae.denoise.notes import FileNote, summarize
from keras_dae.denoise.outputs import local_states, without_finished
from keras_dae.denoise.process_pool import check_not_in_worker, map_in_processes
from keras_dae.denoise.white import White
from keras_dae.denoise.work import Work, list_work, split_into_chunks
from keras_dae.errors import SomeFailed, UserError, printable

MAX_CHUNK_FILES, MAX_CHUNK_BYTES = 256, 2**20  # of what one process takes at a time; a larger file is a chunk alone


def denoise_files(
    inputs: Iterable[str | os.PathLike],
    model: str | os.PathLike,
    output_dir: str | os.PathLike,
    overwrite: bool = False,
    processes: int | None = None,
    white: White = "auto",
) -> tuple[int, int]:
    """Write the denoised versions of image files to `output_dir`.

    Files keep their names, and folders keep their structure. Outputs that exist already are kept, whichever model made
    them, unless they are empty or older than their inputs. So after an interruption, the same call denoises the files
    that are missing. Each output is on the disk before it gets its name, so that a power loss cannot damage it.

    Args:
        inputs: files and folders. Folders are searched for files that end in `codec.DENOISABLE_SUFFIXES`.
        model: run folder, .onnx file or name, see `keras_dae.denoise.denoiser.load_denoiser`.
        output_dir: folder to write into.
        overwrite: whether existing outputs are replaced.
        processes: number of processes, each on one core; None for one per core. With more than one, a script that calls
            this function needs the usual `if __name__ == "__main__":`.
        white: the integer that stands for 1 in all files, such as 4095 for 12 bits in uint16; `type` for the largest
            value of each file's type; `auto` measures files of 16 bits, see `keras_dae.denoise.white.choose_white`.

    Returns:
        `(denoised, kept)`: how many files were denoised, and how many outputs existed already.

    Raises:
        UserError: the model or an input does not exist, two inputs would have the same output, an output would
            overwrite an input, or a process cannot be started.
        SomeFailed: some files could not be read, denoised or written. It is raised at the end. Their names and errors
            are printed to stderr.

    Example::

        denoised, kept = denoise_files(["scans"], "mnist", "denoised")
    """
    check_not_in_worker()
    file = model_file(model)
    content = file.read_bytes()
    denoiser = open_denoiser(content, file)
    works = list_work(inputs, output_dir)
    sources = local_states([work.source for work in works])
    targets = local_states([work.target for work in works])
    missing = works if overwrite else without_finished(works, sources, targets)
    chunks = split_into_chunks(
        missing,
        lambda work: sources[work.source].size if work.source in sources else 0,
        MAX_CHUNK_FILES,
        MAX_CHUNK_BYTES,
    )
    may_start_processes = not current_process().daemon
    processes = min(processes or cores(), len(chunks)) if may_start_processes else 1
    start = time.perf_counter()
    failures: list[Failure] = []
    notes: list[FileNote] = []
    results: Iterator[tuple[list[Work], ChunkOutcome]]
    with ProgressBar("denoising", len(missing)) as bar:
        if processes > 1:
            results = _denoise_in_processes((file, hashlib.sha256(content).digest(), white), chunks, processes)
        else:
            results = ((chunk, denoise_chunk(denoiser, chunk, white=white)) for chunk in chunks)
        for chunk, outcome in results:
            failures += outcome.failures
            notes += outcome.notes
            bar.update(len(chunk))
    denoised, kept = len(missing) - len(failures), len(works) - len(missing)
    remarks = summarize(notes, denoised, denoiser.trained_on)
    print_summary(denoised, kept, failures, time.perf_counter() - start, output_dir, remarks)
    if failures:
        raise SomeFailed(f"{len(failures)} of {len(works)} files could not be denoised, see above")
    return denoised, kept


def print_summary(
    denoised: int,
    kept: int,
    failures: Collection[tuple[Any, str]],
    seconds: float,
    output_dir: str | os.PathLike,
    remarks: Iterable[str] = (),
) -> None:
    """Print to stderr how many images were denoised and how many outputs were kept, remarks, and each failure.

    Args:
        denoised: number of images.
        kept: number of outputs that existed already.
        failures: `(name, error)` of each image or file that could not be denoised.
        seconds: that denoising took.
        output_dir: where the outputs are.
        remarks: lines, see `keras_dae.denoise.notes.summarize`.
    """
    rate = f" ({denoised / seconds:,.0f} images/s)" if denoised else ""
    counts = f"{denoised} denoised in {seconds:.1f} s{rate}, {kept} kept, {len(failures)} failed"
    print(f"{counts}; outputs: {printable(output_dir)}", file=sys.stderr)
    if kept:
        print("the outputs that were kept may be of another model; --overwrite replaces them", file=sys.stderr)
    for remark in remarks:
        print(remark, file=sys.stderr)
    for name, error in sorted(failures):
        print(f"{printable(name)}: {printable(error)}", file=sys.stderr)


def _denoise_in_processes(
    arguments: tuple, chunks: Sequence[list[Work]], processes: int
) -> Iterator[tuple[list[Work], ChunkOutcome]]:
    """Yield each chunk with its outcome. If a process dies, the files of its chunk are tried again one by one.

    `arguments` are those of `_load_chunk_denoiser`.
    """
    lost = []
    for chunk, outcome in map_in_processes(_load_chunk_denoiser, arguments, chunks, processes):
        if outcome is not None:
            yield chunk, outcome
        elif len(chunk) == 1:
            error = "its process died; was the machine out of memory?"
            yield chunk, ChunkOutcome([Failure(chunk[0].source, error)], [])
        else:
            lost += [[work] for work in chunk]
    if lost:
        yield from _denoise_in_processes(arguments, lost, processes)


def _load_chunk_denoiser(file: Path, sha256: bytes, white: White) -> Callable[[Sequence[Work]], ChunkOutcome]:
    warnings.filterwarnings("ignore", module=r"PIL\.")  # as in the parent process
    content = file.read_bytes()
    if hashlib.sha256(content).digest() != sha256:
        raise UserError(f"{file} was changed after the job had begun")
    return functools.partial(denoise_chunk, open_denoiser(content, file, threads=1), white=white)


def denoise_pipe(denoiser: Denoiser, source: BinaryIO, target: BinaryIO, white: White = "auto") -> None:
    """Read an image file from the stream `source`, and write the denoised file to the stream `target`.

    Remarks about the file are printed to stderr. `white` is as for `denoise_files`.

    Raises:
        UserError: there is no image, or the result cannot be written.
    """
    try:
        content = source.read()
    except OSError as error:
        raise UserError(f"cannot read standard input: {error.strerror}") from None
    (denoised,) = denoise_contents(denoiser, [content], white)
    if isinstance(denoised, Failed):
        raise UserError(f"expected an image on standard input: {denoised.error}")
    try:
        target.write(denoised.content)
        target.flush()
    except OSError as error:
        raise UserError(f"cannot write to standard output: {error.strerror}") from None
    for remark in summarize([FileNote("standard input", note) for note in denoised.notes], 1, denoiser.trained_on):
        print(remark, file=sys.stderr)
