"""Files and folders that are written atomically: readers see the old one or the new one, never a part."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from keras_dae.errors import UserError


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike, lasting: bool = True) -> Iterator[Path]:
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


def size_of(path):
    """Return the bytes of a file; 0 where it is gone: reading it will say so."""
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def folder_to_replace(folder: str | os.PathLike) -> Path:
    """Return the Path of a folder that is to be made or replaced as a whole.

    Raises:
        UserError: the current folder is it, or is in it, and would be gone; or something is mounted there.
    """
    place = Path(os.path.realpath(folder))
    if Path.cwd().is_relative_to(place):
        raise UserError(f"expected a folder beside or below the current one, got {folder}, which would be replaced")
    if os.path.ismount(place):
        raise UserError(f"expected a folder that can be renamed, got {folder}, a mount point; give one below it")
    return place if os.path.islink(folder) else Path(folder)


@contextlib.contextmanager
def scratch_folder(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a new, empty folder at `path`, and remove it when the block ends, however it ends.

    What a killed process left there is removed first, so the caller must hold the lock of what it writes (`locked`).

    Raises:
        UserError: the folder cannot be made, or the block raised an `OSError`.
    """
    path = Path(path)
    try:
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        yield path
    except OSError as error:
        raise UserError(f"cannot write into {path.parent}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def staged_folder(target: str | os.PathLike) -> Iterator[Path]:
    """Yield an empty folder to write to; it replaces the folder `target` if the block succeeds.

    The folder lies beside `target`, so that one rename puts it in place. All its files are on the disk before that.
    The caller must hold the lock of `target`, or of a folder above it.

    Raises:
        UserError: something cannot be written; `target` is then unchanged.
    """
    target = Path(target)
    with scratch_folder(target.with_name(f".{target.name}.staged")) as folder:
        yield folder
        for path in folder.rglob("*"):
            sync(path)
        replace_folder(folder, target)


def replace_folder(finished: str | os.PathLike, target: str | os.PathLike) -> None:
    """Rename the folder `finished` to `target`. A folder that is there already is kept until the new one stands.

    A process killed in between leaves the old one as `.<name>.old`, which `remove_old` removes.
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


def remove_old(target: str | os.PathLike) -> None:
    """Remove the folder that `replace_folder` replaced by `target`, where the process was killed before it did so."""
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
