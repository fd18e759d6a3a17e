"""Many small files that are written atomically, and to the disk together, which is faster than one by one."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePath

from keras_dae._util.atomic import cannot_write, move_into_place, remove_temporary, sync, temporary_beside
from keras_dae.errors import first_line

MAX_STAGED = 256  # files that wait
MAX_SYNCS = 32  # at the same time: the filesystem then writes its journal a few times, and not once for each file


class StagedFiles:
    """Files that have temporary names until they are on the disk. So a power loss leaves no empty or damaged file.

    Example::

        files = StagedFiles()
        try:
            files.write("a.png", content)
            failed = files.finish()
        finally:
            files.discard()
    """

    def __init__(self) -> None:
        self._staged: dict[Path, Path] = {}  # temporary path -> path
        self._failed: dict[PurePath, str] = {}
        self._lock = threading.Lock()

    def write(self, path: str | os.PathLike, content: bytes) -> None:
        """Write a file. It gets its name in `finish`, or when MAX_STAGED files wait. Threads may call this.

        Raises:
            UserError: the file cannot be written.
        """
        path = Path(path)
        temporary = temporary_beside(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(temporary, "xb") as file:
                file.write(content)
        except BaseException as error:
            remove_temporary(temporary)
            if isinstance(error, OSError):
                raise cannot_write(path, error) from error
            raise
        with self._lock:
            self._staged[temporary] = path
            if len(self._staged) >= MAX_STAGED:
                self._publish()

    def finish(self) -> dict[PurePath, str]:
        """Give all files their names. Return `{path: error}` of those that could not be written."""
        with self._lock:
            self._publish()
            failed, self._failed = self._failed, {}
        return failed

    def discard(self) -> None:
        """Remove the files that have no name yet. For the case that an exception ended the writing."""
        for temporary in self._staged:
            remove_temporary(temporary)
        self._staged = {}

    def _publish(self) -> None:
        if not self._staged:
            return
        with ThreadPoolExecutor(min(MAX_SYNCS, len(self._staged))) as pool:
            errors = list(pool.map(_sync_error, self._staged))
        for (temporary, path), error in zip(list(self._staged.items()), errors):
            try:
                if error:
                    raise error
                move_into_place(temporary, path)
            except OSError as error:
                self._failed[path] = first_line(cannot_write(path, error))
                remove_temporary(temporary)
            del self._staged[temporary]


def _sync_error(path: Path) -> OSError | None:
    try:
        sync(path)
    except OSError as error:
        return error
    return None
