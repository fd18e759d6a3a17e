"""Files on this machine or in an object store, by path or address, through pyarrow's filesystems."""

import contextlib
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePath, PurePosixPath
from typing import IO

from pyarrow.fs import FileSelector, FileSystem, FileType, LocalFileSystem

from keras_dae._util.atomic import atomic_file
from keras_dae._util.staged_files import StagedFiles
from keras_dae.denoise.outputs import FileState, local_states
from keras_dae.errors import UserError, first_line
from keras_dae.images.find import describe_left_out, find_files, is_hidden, suffix_of

MAX_REQUESTS = 32  # requests of one process to an object store at the same time
MAX_MEMORY_BYTES = 2**24  # a larger file waits on the disk while it is written for an object store


def resolve(place: str | os.PathLike) -> tuple[FileSystem, PurePath]:
    """Return the filesystem and the path of a file or folder.

    Args:
        place: path, or address such as s3://bucket/folder or file:///folder.

    Raises:
        UserError: pyarrow does not understand the address.
    """
    try:
        if "://" in str(place):
            filesystem, path = FileSystem.from_uri(str(place))
        else:
            filesystem, path = LocalFileSystem(), os.path.abspath(place)
    except (OSError, ValueError, NotImplementedError) as error:
        raise UserError(f"cannot use {place}: {first_line(error)}") from None
    return filesystem, Path(path) if is_local(filesystem) else PurePosixPath(path)


def is_local(filesystem: FileSystem) -> bool:
    """Return whether the files are on a disk, so that opening one takes microseconds."""
    return isinstance(filesystem, LocalFileSystem)


def list_files(filesystem: FileSystem, path: PurePath, suffixes: tuple[str, ...] = ("",)) -> dict[PurePath, int] | None:
    """Return `{path: bytes}` of the files that `list_states` finds."""
    states = list_states(filesystem, path, suffixes)
    return None if states is None else {file: state.size for file, state in states.items()}


def list_states(
    filesystem: FileSystem, path: PurePath, suffixes: tuple[str, ...] = ("",)
) -> dict[PurePath, FileState] | None:
    """Return `{path: state}` of the file at `path`, or of all files below it; None if nothing is there.

    Args:
        filesystem: of the files.
        path: file or folder.
        suffixes: files below `path` must end in one of these, in upper or lower case.

    Raises:
        UserError: the folder cannot be listed.
    """
    try:
        found = filesystem.get_file_info(os.fsencode(path))
        if found.type == FileType.NotFound:
            return None
        if found.type == FileType.File:
            return local_states([path]) if is_local(filesystem) else {path: FileState(found.size, found.mtime_ns)}
        if is_local(filesystem):  # the same files as the local engine, which does not follow links to folders
            files, left_out = find_files(path, suffixes)
            _print_left_out(left_out, suffixes)
            return {file: FileState(0) for file in files} | local_states(files)  # a worker reports what cannot be read
        entries = filesystem.get_file_info(FileSelector(str(path), recursive=True))
    except OSError as error:
        raise UserError(f"cannot list {path}: {first_line(error)}") from None
    states: dict[PurePath, FileState] = {
        PurePosixPath(entry.path): FileState(entry.size, entry.mtime_ns)
        for entry in sorted(entries, key=lambda entry: entry.path)
        if entry.type == FileType.File and not any(map(is_hidden, PurePosixPath(entry.path).relative_to(path).parts))
    }
    chosen = {file: state for file, state in states.items() if file.name.lower().endswith(suffixes)}
    _print_left_out(Counter(suffix_of(file.name) for file in states.keys() - chosen.keys()), suffixes)
    return chosen


def _print_left_out(left_out: Counter[str], suffixes: tuple[str, ...]) -> None:
    if left_out and suffixes != ("",):  # a list of outputs leaves nothing out
        print(describe_left_out(left_out), file=sys.stderr)


@contextlib.contextmanager
def atomic_stream(filesystem: FileSystem, path: PurePath) -> Iterator[IO[bytes]]:
    """Yield a binary stream. If the block succeeds, what was written to it becomes the file at `path`, atomically.

    Raises:
        UserError: a local file cannot be written.
        OSError: an object cannot be written; `path` is then unchanged.
    """
    if is_local(filesystem):
        with atomic_file(path) as temporary, open(temporary, "wb") as stream:
            yield stream
        return
    with tempfile.SpooledTemporaryFile(
        MAX_MEMORY_BYTES
    ) as stream:  # closing the object itself would publish half of it
        yield stream
        stream.seek(0)
        with filesystem.open_output_stream(os.fsencode(path)) as target:
            shutil.copyfileobj(stream, target)


class FilesystemAccess:
    """Reads from one filesystem and writes to another; a `keras_dae.denoise.chunk.FileAccess`."""

    def __init__(self, source: FileSystem, target: FileSystem):
        self.source, self.target = source, target
        self._staged = StagedFiles()
        self.finish, self.discard = self._staged.finish, self._staged.discard
        self.max_requests = 1 if is_local(source) and is_local(target) else MAX_REQUESTS

    def read(self, source: PurePath) -> bytes:
        """Return the content of a file. Raises `OSError`."""
        with self.source.open_input_stream(os.fsencode(source)) as file:
            return file.read()

    def write(self, target: PurePath, content: bytes) -> None:
        """Write a file atomically, at the latest in `finish`. Raises `UserError` or `OSError`."""
        if is_local(self.target):
            self._staged.write(target, content)
        else:
            with atomic_stream(self.target, target) as file:
                file.write(content)
