"""Which files a job denoises, and in which chunks. The engines share the work by chunks."""

import contextlib
import functools
import os
import sys
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePath
from typing import NamedTuple

from keras_dae.errors import UserError
from keras_dae.images.codec import DENOISABLE_SUFFIXES
from keras_dae.images.find import describe_left_out, find_files


class Work(NamedTuple):
    """A file to denoise.

    Attributes:
        source: the file.
        target: where the denoised file is written.
    """

    source: PurePath
    target: PurePath


def list_work(inputs: Iterable[str | os.PathLike], output_dir: str | os.PathLike) -> list[Work]:
    """Return the files to denoise. Raises `UserError`, see `denoise_files`."""
    works = []
    left_out = Counter[str]()
    inputs = list(inputs)
    if not all(map(os.fspath, (*inputs, output_dir))):  # Path("") is the working folder
        raise UserError("expected the path of a file or a folder, got an empty path; is a variable not set?")
    if os.path.lexists(output_dir) and not os.path.isdir(output_dir):
        raise UserError(f"expected --output-dir to be a folder, got {output_dir}, which is none")
    for given in map(Path, inputs):
        if os.path.isdir(given):
            found = find_files(given, DENOISABLE_SUFFIXES)
            left_out += found.left_out
            files = without_outputs(found.files, given, output_dir)
            works += [Work(file, Path(output_dir, file.relative_to(given))) for file in files]
        elif os.path.isfile(given):
            works.append(Work(given, Path(output_dir, given.name)))
        elif os.path.exists(given):
            raise UserError(f"expected a file or a folder, got {given}, which is a pipe, a socket or a device")
        else:
            raise UserError(f"expected a file or a folder, got {given}, which is not there")
    if left_out:
        print(describe_left_out(left_out), file=sys.stderr)
    if not works:
        raise UserError(f"expected images, found none; looked for {', '.join(DENOISABLE_SUFFIXES)}")
    check_targets(works)
    return works


def without_outputs(files: Iterable[PurePath], folder: PurePath, output_dir: str | os.PathLike) -> list[PurePath]:
    """Return the files that are not in `output_dir`, in case that is a subfolder of `folder`, which has the files."""
    output_dir, real_folder = Path(os.path.realpath(output_dir)), Path(os.path.realpath(folder))
    if output_dir == real_folder or not output_dir.is_relative_to(real_folder):
        return list(files)
    outputs = folder / output_dir.relative_to(real_folder)
    return [file for file in files if not file.is_relative_to(outputs)]


def check_targets(works: Sequence[Work]) -> None:
    """Raise `UserError` if an output would overwrite an input, or two inputs would have the same output."""
    folder_of = functools.cache(_folder_identity)  # asking for each file would take longer than reading it
    links = [Path(os.path.realpath(work.source)) for work in works if os.path.islink(work.source)]
    sources = {(folder_of(path.parent), path.name) for path in (*links, *(work.source for work in works))}
    work_of_target: dict[object, Work] = {}
    for work in works:
        target = folder_of(work.target.parent), work.target.name
        if target in sources:
            raise UserError(f"{work.target} would overwrite an input; give another --output-dir")
        if (other := work_of_target.setdefault(target, work)) is not work:
            raise UserError(
                f"{other.source} and {work.source} would both become {work.target}; denoise them in separate runs"
            )
    work_of_name: dict[str, Work] = {}
    for work in works:
        name = unicodedata.normalize("NFD", str(work.target)).casefold()
        other = work_of_name.setdefault(name, work)
        if other is not work and isinstance(work.target, Path) and merges_names(work.target.parent):
            raise UserError(
                f"{other.source} and {work.source} would both become {work.target}, because this disk takes both names "
                "for the same; denoise them in separate runs"
            )


def _folder_identity(folder: PurePath) -> object:
    """Return something that is equal for all paths of one folder, also through links and mounts."""
    if isinstance(folder, Path):  # not in an object store
        with contextlib.suppress(OSError):  # it is not there yet
            status = os.stat(folder)
            return status.st_dev, status.st_ino
    return os.path.realpath(folder)


def merges_names(folder: Path) -> bool:
    """Return whether names that differ only in upper and lower case are the same file in `folder`, or where it will be.

    A file is created there for a moment. If that is not possible, nothing else can be written there either.
    """
    existing = next(parent for parent in (folder, *folder.absolute().parents) if os.path.isdir(parent))
    try:
        with tempfile.NamedTemporaryFile(prefix=".a", dir=existing) as file:
            return os.path.exists(Path(file.name).with_name(os.path.basename(file.name).swapcase()))
    except OSError:
        return False


def split_into_chunks(
    works: Iterable[Work], size_of_work: Callable[[Work], int], max_files: int, max_bytes: int
) -> list[list[Work]]:
    """Return the files in chunks, in the same order. A file that is larger than `max_bytes` is a chunk alone.

    Args:
        works: the files.
        size_of_work: returns the number of bytes of a source.
        max_files, max_bytes: of a chunk.
    """
    chunks: list[list[Work]] = []
    bytes_of_chunk = 0
    for work in works:
        size = size_of_work(work)
        bytes_of_chunk += size
        if not chunks or bytes_of_chunk > max_bytes or len(chunks[-1]) == max_files:
            chunks.append([])
            bytes_of_chunk = size
        chunks[-1].append(work)
    return chunks
