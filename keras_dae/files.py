"""Files and folders that appear whole or not at all."""

import contextlib
import json
import os
import shutil
import zipfile
import zlib
from pathlib import Path

from keras_dae.errors import UserError

# What NumPy, zip and gzip raise on a file that is missing, cut or of another kind.
UNREADABLE = (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error)


@contextlib.contextmanager
def whole_file(path, lasting=True):
    """Yield a temporary path beside `path`, same ending, to write to; put it in place if the block succeeds.

    Unless `lasting` is false, the content is on the disk before the name is, so that a power loss cannot leave an
    empty file; that takes milliseconds a file.

    Raises:
        UserError: when the folder or the file cannot be written; `path` is then as it was before.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if lasting:
            sync(temporary)
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):  # it may never have been there
            temporary.unlink()
        if isinstance(error, OSError):
            raise UserError(f"cannot write {path}: {error.strerror or error}") from error
        raise


def sync(path):
    """Make sure that a file or a folder's entries are on the disk, so that a power loss cannot take them."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path, value):
    """Write `value` as indented JSON, whole or not at all. Raises `UserError` when it cannot be written."""
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path):
    """Return the object in a JSON file. Raises `UserError` when it is missing, cut or not a JSON object."""
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}") from None
    if not isinstance(value, dict):
        raise UserError(f"expected a JSON object in {path}, got {type(value).__name__}")
    return value


def put_folder_in_place(finished, target):
    """Rename folder `finished` to `target`; a folder already there is kept until the new one stands.

    Killed in between, it leaves that one as `.<name>.old`, which `remove_old` takes away.
    """
    finished, target = Path(finished), Path(target)
    sync(finished)
    if target.exists():
        old = _old(target)
        shutil.rmtree(old, ignore_errors=True)
        target.rename(old)
        finished.rename(target)
        remove_old(target)
    else:
        finished.rename(target)
    sync(target.parent)


def remove_old(target):
    """Remove what `put_folder_in_place` replaced by `target`, where that stands but was all that was done."""
    if Path(target).exists():
        shutil.rmtree(_old(Path(target)), ignore_errors=True)


def _old(target):
    return target.with_name(f".{target.name}.old")


@contextlib.contextmanager
def locked(folder):
    """Hold the lock of a folder that is to be written, which need not be there yet; it dies with the process.

    Raises:
        UserError: another process holds it, or the lock's file, `.<name>.lock` beside the folder, cannot be made.
    """
    import filelock

    folder = Path(os.path.abspath(folder))
    lock = filelock.FileLock(folder.with_name(f".{folder.name}.lock"), timeout=0)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except filelock.Timeout:
        raise UserError(f"another process is writing {folder}; wait for it to end, or give another folder") from None
    except OSError as error:
        raise UserError(f"cannot write into {folder.parent}: {error.strerror or error}") from None
    try:
        yield
    finally:
        lock.release()
