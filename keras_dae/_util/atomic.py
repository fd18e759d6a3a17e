"""Files and folders that appear whole or not at all."""

import contextlib
import json
import os
import shutil
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path

from keras_dae.errors import UserError

# What NumPy, zip and gzip raise on a file that is missing, cut, of another kind, or larger than memory.
UNREADABLE = (
    *(OSError, EOFError, KeyError, ValueError, TypeError, OverflowError, SyntaxError),
    *(MemoryError, NotImplementedError, RuntimeError, struct.error),
    *(tokenize.TokenError, zipfile.BadZipFile, zlib.error),
)
BOMB_BYTES, BOMB_RATIO = 2**28, 200  # images and weights never shrink so much; hostile archives do


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


def size_of(path):
    """Return the bytes of a file; 0 where it is gone: reading it will say so."""
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def write_json(path, value):
    """Write `value` as indented JSON, whole or not at all. Raises `UserError` when it cannot be written."""
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, allow_nan=False, ensure_ascii=True) + "\n", encoding="utf-8")


def read_json(path):
    """Return the object in a JSON file. Raises `UserError` when it is missing, cut or not a JSON object."""
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"cannot read {path}: {error}") from None
    if not isinstance(value, dict):
        raise UserError(f"expected a JSON object in {path}, got {type(value).__name__}")
    return value


@contextlib.contextmanager
def expecting(path):
    """Turn what a block trips over in the content of a JSON file into a `UserError` that names the file."""
    try:
        yield
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        raise UserError(f"expected {path} as this package writes it, got another content: {error!r}") from None


def check_archive(file):
    """Check a zip archive before anything of it is used: that it is no bomb, then all checksums.

    Args:
        file: path or binary file.

    Raises:
        ValueError: a member that would grow out of proportion, or whose content is not what was written.
        OSError, zipfile.BadZipFile, …: see UNREADABLE.
    """
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            if member.file_size > max(BOMB_BYTES, BOMB_RATIO * member.compress_size):
                raise ValueError(
                    f"{member.filename} would grow from {member.compress_size:,} to {member.file_size:,} bytes: "
                    "refused as a decompression bomb"
                )
        if damaged := archive.testzip():
            raise ValueError(f"{damaged} is damaged: its checksum is wrong")


def place_of(folder):
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
