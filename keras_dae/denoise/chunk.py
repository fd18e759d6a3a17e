"""Read, denoise and write the files of a chunk. A bad file does not stop the others."""

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import PurePath
from typing import NamedTuple, Protocol

from keras_dae._util.atomic import atomic_file
from keras_dae._util.threads import map_ahead
from keras_dae.denoise.batching import Failed, attempt, denoise_contents
from keras_dae.denoise.denoiser import Denoiser
from keras_dae.denoise.work import Work


class Failure(NamedTuple):
    """A file that could not be denoised, and one line that says why."""

    source: PurePath
    error: str


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
        """Write a file atomically."""
        ...


class LocalFiles:
    """Files of this machine. Opening one takes microseconds, so threads would only cost time."""

    max_requests = 1

    def read(self, source: PurePath) -> bytes:
        """Return the content of a file. Raises `OSError`."""
        with open(source, "rb") as file:
            return file.read()

    def write(self, target: PurePath, content: bytes) -> None:
        """Write a file atomically. Raises `UserError`."""
        with atomic_file(target, lasting=False) as temporary, open(temporary, "wb") as file:
            file.write(content)


def denoise_chunk(denoiser: Denoiser, chunk: Sequence[Work], files: FileAccess | None = None) -> list[Failure]:
    """Denoise files.

    Args:
        denoiser: runs the network.
        chunk: the files.
        files: reads and writes them; None for `LocalFiles`.

    Returns:
        The files that failed, in the order of the chunk.
    """
    files = files or LocalFiles()
    denoise = _denoise_overlapping if files.max_requests > 1 else _denoise_in_turn
    outcomes = zip(chunk, denoise(denoiser, chunk, files))
    return [Failure(work.source, outcome.error) for work, outcome in outcomes if isinstance(outcome, Failed)]


def _denoise_in_turn(denoiser: Denoiser, chunk: Sequence[Work], files: FileAccess) -> list[Failed | None]:
    """Read, denoise and write files in this thread. A file is read when its batch needs it, and written after that."""
    contents = (attempt(files.read, work.source) for work in chunk)
    return [_write(files, work, denoised) for work, denoised in zip(chunk, denoise_contents(denoiser, contents))]


def _denoise_overlapping(denoiser: Denoiser, chunk: Sequence[Work], files: FileAccess) -> list[Failed | None]:
    """Denoise files in this thread, while other threads read the next files and write the results.

    At most `files.max_requests` files are read ahead, and as many results wait to be written. So memory is bounded.
    """
    outcomes: list[Failed | None] = []
    writing: deque[Future[Failed | None]] = deque()
    with ThreadPoolExecutor(files.max_requests) as pool:
        contents = map_ahead(pool, lambda work: attempt(files.read, work.source), chunk, files.max_requests)
        for work, denoised in zip(chunk, denoise_contents(denoiser, contents)):
            writing.append(pool.submit(_write, files, work, denoised))
            if len(writing) >= files.max_requests:
                outcomes.append(writing.popleft().result())
        return outcomes + [future.result() for future in writing]


def _write(files: FileAccess, work: Work, denoised: bytes | Failed) -> Failed | None:
    """Write a denoised file. Return `Failed` if that, or an earlier step, failed."""
    return denoised if isinstance(denoised, Failed) else attempt(files.write, work.target, denoised)
