"""Files on this machine or in an object store, by path or address, through pyarrow's filesystems."""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path, PurePosixPath

from pyarrow.fs import FileSelector, FileSystem, FileType, LocalFileSystem

from keras_dae._util.atomic import atomic_file, size_of
from keras_dae.errors import UserError, first_line
from keras_dae.images.read import find_files

REQUESTS = 32  # that one process has under way to an object store
IN_MEMORY = 2**24  # bytes of a file on its way to an object store; a larger one waits on the disk


def resolve(place):
    """Return `(filesystem, path)` of a path, or of an address such as s3://bucket/folder or file:///folder.

    Raises:
        UserError: an address that pyarrow does not understand.
    """
    try:
        if "://" in str(place):
            filesystem, path = FileSystem.from_uri(str(place))
        else:
            filesystem, path = LocalFileSystem(), os.path.abspath(place)
    except (OSError, ValueError, NotImplementedError) as error:
        raise UserError(f"cannot use {place}: {first_line(error)}") from None
    return filesystem, Path(path) if is_local(filesystem) else PurePosixPath(path)


def is_local(filesystem):
    """Return whether files are opened in microseconds, and written in place."""
    return isinstance(filesystem, LocalFileSystem)


def find(filesystem, path, suffixes=""):
    """Return path -> bytes of the file at `path`, or of all files below it, that end in `suffixes` if these are given.

    None when there is nothing of that name.

    Raises:
        UserError: the place cannot be listed.
    """
    try:
        found = filesystem.get_file_info(os.fsencode(path))
        if found.type == FileType.NotFound:
            return None
        if found.type == FileType.File:
            return {path: found.size}
        if is_local(filesystem):  # as the local engine does, which follows no links to folders
            return {file: size_of(file) for file in find_files(path, suffixes)}
        entries = filesystem.get_file_info(FileSelector(str(path), recursive=True))
    except OSError as error:
        raise UserError(f"cannot list {path}: {first_line(error)}") from None
    return {
        PurePosixPath(entry.path): entry.size
        for entry in sorted(entries, key=lambda entry: entry.path)
        if entry.type == FileType.File and entry.path.lower().endswith(suffixes)
    }


@contextlib.contextmanager
def atomic_stream(filesystem, path):
    """Yield a binary stream; what was written to it is the file at `path` if the block succeeds.

    Raises:
        UserError: when a local file cannot be written.
        OSError: when an object cannot be; it is then as it was before.
    """
    if is_local(filesystem):
        with atomic_file(path, lasting=False) as temporary, open(temporary, "wb") as stream:
            yield stream
        return
    with tempfile.SpooledTemporaryFile(IN_MEMORY) as stream:  # closing a half-written object would show it
        yield stream
        stream.seek(0)
        with filesystem.open_output_stream(os.fsencode(path)) as target:
            shutil.copyfileobj(stream, target)
