"""Read, denoise and write the files of a chunk. A bad file does not stop the others."""

from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import PurePath
from typing import NamedTuple, Protocol

from keras_dae._util.staged_files import StagedFiles
from keras_dae._util.threads import map_ahead
from keras_dae.denoise.batching import Failed, attempt, denoise_contents
from keras_dae.denoise.denoiser import Denoiser
from keras_dae.denoise.notes import Denoised, FileNote, Note
from keras_dae.denoise.white import White
from keras_dae.denoise.work import Work
from keras_dae.errors import printable


class Failure(NamedTuple):
    """A file that could not be denoised, and one line that says why."""

    source: PurePath
    error: str


class ChunkOutcome(NamedTuple):
    """What became of a chunk.

    Attributes:
        failures: the files that failed, in the order of the chunk.
        notes: about the others.
    """

    failures: list[Failure]
    notes: list[FileNote]


class FileAccess(Protocol):
    """How `denoise_chunk` reads and writes files. Its methods raise any exception if they fail.

    Attributes:
        max_requests: how many files are read, or written, at the same time. With more than 1, the methods are called in
            threads.
    """

    max_requests: int

    def read(self, source: PurePath) -> bytes:
        """Return the content of a file."""
        ...

    def write(self, target: PurePath, content: bytes) -> None:
        """Write a file atomically. It may get its name later, but not after `finish`."""
        ...

    def finish(self) -> Mapping[PurePath, str]:
        """Give all written files their names. Return `{target: error}` of those for which that failed."""
        ...

    def discard(self) -> None:
        """Remove written files that have no name yet. For the case that an exception ended the work."""
        ...


class LocalFiles(StagedFiles):
    """Files of this machine. Opening one takes microseconds, so threads would only cost time."""

    max_requests = 1

    def read(self, source: PurePath) -> bytes:
        """Return the content of a file. Raises `OSError`."""
        with open(source, "rb") as file:
            return file.read()


def denoise_chunk(
    denoiser: Denoiser, chunk: Sequence[Work], files: FileAccess | None = None, white: White = "auto"
) -> ChunkOutcome:
    """Denoise files.

    Args:
        denoiser: runs the network.
        chunk: the files.
        files: reads and writes them; None for `LocalFiles`.
        white: see `keras_dae.denoise.batching.denoise_contents`.
    """
    files = files or LocalFiles()
    denoise = _denoise_overlapping if files.max_requests > 1 else _denoise_in_turn
    try:
        results = denoise(denoiser, chunk, files, white)
        unfinished = files.finish()
    finally:
        files.discard()
    outcome = ChunkOutcome([], [])
    for work, result in zip(chunk, results):
        if isinstance(result, Failed):
            outcome.failures.append(Failure(work.source, result.error))
        elif work.target in unfinished:
            outcome.failures.append(Failure(work.source, unfinished[work.target]))
        else:
            outcome.notes.extend(FileNote(printable(work.source), note) for note in result)
    return outcome


def _denoise_in_turn(
    denoiser: Denoiser, chunk: Sequence[Work], files: FileAccess, white: White
) -> list[tuple[Note, ...] | Failed]:
    """Read, denoise and write files in this thread. A file is read when its batch needs it, and written after that."""
    contents = (attempt(files.read, work.source) for work in chunk)
    return [_write(files, work, denoised) for work, denoised in zip(chunk, denoise_contents(denoiser, contents, white))]


def _denoise_overlapping(
    denoiser: Denoiser, chunk: Sequence[Work], files: FileAccess, white: White
) -> list[tuple[Note, ...] | Failed]:
    """Denoise files in this thread, while other threads read the next files and write the results.

    At most `files.max_requests` files are read ahead, and as many results wait to be written. So memory is bounded.
    """
    outcomes: list[tuple[Note, ...] | Failed] = []
    writing: deque[Future[tuple[Note, ...] | Failed]] = deque()
    with ThreadPoolExecutor(files.max_requests) as pool:
        contents = map_ahead(pool, lambda work: attempt(files.read, work.source), chunk, files.max_requests)
        for work, denoised in zip(chunk, denoise_contents(denoiser, contents, white)):
            writing.append(pool.submit(_write, files, work, denoised))
            if len(writing) >= files.max_requests:
                outcomes.append(writing.popleft().result())
        return outcomes + [future.result() for future in writing]


def _write(files: FileAccess, work: Work, denoised: Denoised | Failed) -> tuple[Note, ...] | Failed:
    """Write a denoised file. Return the notes about it, or `Failed` if that, or an earlier step, failed."""
    if isinstance(denoised, Failed):
        return denoised
    written = attempt(files.write, work.target, denoised.content)
    return written if isinstance(written, Failed) else denoised.notes
