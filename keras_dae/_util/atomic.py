"""Files and folders that are written atomically: readers see the old one or the complete new one."""

import contextlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from keras_dae.errors import UserError

MAX_ENDING = 32  # bytes of a suffix that a temporary file keeps
UNFINISHED = ("staged", "import")  # a folder `.<name>.<ending>` that is being written; "import" is of version 0.1.0


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike, lasting: bool = True) -> Iterator[Path]:
    """Yield a temporary path to write to; rename it to `path` if the block succeeds.

    The temporary path is in the same folder and has the same ending, see `temporary_beside`. A file that is replaced
    hands on its permissions. A link is replaced, and not followed.

    Args:
        path: the file to write.
        lasting: whether to write the content to the disk before the rename, so that a power loss cannot leave an empty
            file. This takes some milliseconds per file; for many files, see `keras_dae._util.staged_files`.

    Raises:
        UserError: the folder or the file cannot be written; `path` is then unchanged.
    """
    path = Path(path)
    temporary = temporary_beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if lasting:
            sync(temporary)
        move_into_place(temporary, path)
    except BaseException as error:
        remove_temporary(temporary)
        if isinstance(error, OSError):
            raise cannot_write(path, error) from error
        raise


def temporary_beside(path: Path) -> Path:
    """Return a hidden path in the same folder, with the same ending. It is new, also among machines that share a disk.

    It is short, so that it is valid wherever `path` is. An ending of more than MAX_ENDING bytes is left out.

    Example:
        >>> temporary = temporary_beside(Path("scans/a.png"))
        >>> str(temporary.parent), temporary.name[0], temporary.suffix
        ('scans', '.', '.png')
    """
    ending = path.suffix if len(os.fsencode(path.suffix)) <= MAX_ENDING else ""
    return path.with_name(f".{secrets.token_hex(8)}{ending}")


def move_into_place(temporary: Path, path: Path) -> None:
    """Rename a file to `path`. If it replaces a file, it gets the permissions of that. Raises `OSError`."""
    with contextlib.suppress(FileNotFoundError):
        old, new = path.lstat().st_mode, temporary.stat().st_mode
        if stat.S_ISREG(old) and old != new:
            temporary.chmod(stat.S_IMODE(old))
    os.replace(temporary, path)


def remove_temporary(temporary: Path) -> None:
    """Remove a temporary file if it is there. That it cannot be removed is no reason to hide an earlier error."""
    with contextlib.suppress(OSError):
        temporary.unlink()


def cannot_write(path: Path, error: OSError) -> UserError:
    """Return the `UserError` that says why a file cannot be written."""
    return UserError(f"cannot write {path}: {error.strerror or error}")


def sync(path: str | os.PathLike) -> None:
    """Write a file's content, or the list of a folder's entries, from the system's cache to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def folder_to_replace(folder: str | os.PathLike) -> Path:
    """Return the Path of a folder that is to be created or replaced as a whole; a symbolic link is resolved.

    Raises:
        UserError: the current folder is this folder or inside it, or something is mounted there.
    """
    place = Path(os.path.realpath(folder))
    if Path.cwd().is_relative_to(place):
        raise UserError(f"expected a folder beside or below the current one, got {folder}, which would be replaced")
    if os.path.ismount(place):
        raise UserError(f"expected a folder that can be renamed, got {folder}, a mount point; give one below it")
    return place if os.path.islink(folder) else Path(folder)


@contextlib.contextmanager
def scratch_folder(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a new, empty folder at `path`, and remove it when the block ends, also after an error.

    Anything that a killed process left at `path` is removed first, so the caller must hold a lock (see `locked`).

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

    The folder is beside `target`, so that a rename puts it in place. Before that, all its files are written to the
    disk. The caller must hold the lock of `target`, or of a folder above it (see `locked`).

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
    """Rename the folder `finished` to `target`. An existing `target` is removed after that.

    If the process is killed in between, the old folder stays as `.<name>.old`. `restore_old` gives it back its name;
    `remove_old` removes it when the new one is there.
    """
    finished, target = Path(finished), Path(target)
    sync(finished)
    if target.exists():
        old = _old(target)
        shutil.rmtree(old, ignore_errors=True)
        target.rename(old)
    finished.rename(target)
    remove_old(target)
    sync(target.parent)


def restore_old(target: str | os.PathLike) -> None:
    """Give the old folder its name back, if `replace_folder` was killed before the new one had it.

    The caller must hold the lock of `target` (see `locked`).
    """
    target = Path(target)
    if _old(target).is_dir() and not os.path.lexists(target):
        _old(target).rename(target)


def remove_old(target: str | os.PathLike) -> None:
    """Remove what killed processes left beside the folder `target`: the folder that it replaced, and unfinished ones.

    The replaced folder is kept while there is no `target`. The caller must hold the lock of `target` (see `locked`).
    """
    target = Path(target)
    if target.exists():
        shutil.rmtree(_old(target), ignore_errors=True)
    for ending in UNFINISHED:
        shutil.rmtree(target.with_name(f".{target.name}.{ending}"), ignore_errors=True)


def _old(target: Path) -> Path:
    return target.with_name(f".{target.name}.old")


@contextlib.contextmanager
def locked(folder: str | os.PathLike) -> Iterator[None]:
    """Hold the lock of a folder that is to be written, which need not exist yet.

    The lock is the file `.<name>.lock` beside the folder. The system releases it when the process ends. So whoever
    holds it may remove what killed processes left, and that is done first (see `remove_old`).

    Raises:
        UserError: another process holds the lock, or its file cannot be created.
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
        remove_old(folder)
        yield
    finally:
        lock.release()
