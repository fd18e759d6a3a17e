"""Denoise files and folders on all cores: a bad file costs no other, and what is done is not done again."""

import functools
import os
import sys
import time
import warnings
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from keras_dae._util.atomic import atomic_file, size_of
from keras_dae._util.threads import cores
from keras_dae.denoise.batching import attempt, denoise_contents
from keras_dae.denoise.denoiser import load_denoiser
from keras_dae.denoise.process_pool import map_in_processes
from keras_dae.errors import UserError, first_line, printable
from keras_dae.images.codec import DENOISABLE_SUFFIXES
from keras_dae.images.read import find_files

PART_FILES, PART_BYTES = 256, 2**20  # what one process takes at a time; larger files go alone


class SomeFailed(UserError):
    """Files that could not be denoised, by name; all others are done."""

    status = 1


class Work(NamedTuple):
    """A file to be denoised, and where the result goes."""

    source: Path
    target: Path


def denoise_files(inputs, model, output_dir, overwrite=False, processes=None):
    """Write the denoised versions of image files below `output_dir`; return `(denoised, kept)`, numbers of files.

    Files keep their names, folders their trees. What is there already is kept, so that a stopped job goes on with
    what is missing.

    Args:
        inputs: files and folders; folders are searched for files that end in `codec.DENOISABLE_SUFFIXES`.
        model: run folder or .onnx file, see `keras_dae.denoise.denoiser.load_denoiser`.
        output_dir: folder to write into.
        overwrite: whether existing outputs are replaced.
        processes: that share the work, each on one core; None for as many as there are cores. A script that calls
            this with more than one needs the usual `if __name__ == "__main__":`.

    Raises:
        UserError: no such model, an input is not there, two inputs would give one output, or an output is one of
            the inputs.
        SomeFailed: at the end, naming the files that could not be read, denoised or written.
    """
    denoiser = load_denoiser(model)
    files = plan(inputs, output_dir)
    missing = [file for file in files if overwrite or not os.path.exists(file.target)]
    parts = split(missing, lambda work: size_of(work.source), PART_FILES, PART_BYTES)
    processes = min(processes or cores(), len(parts))
    start, failed = time.perf_counter(), []
    with tqdm(desc="denoising", total=len(missing), unit=" images", disable=None) as bar:
        results = ((part, denoise_part(denoiser, part)) for part in parts)
        if processes > 1:
            results = _denoise_in_processes(model, parts, processes)
        for part, errors in results:
            failed += errors
            bar.update(len(part))
    done, kept = len(missing) - len(failed), len(files) - len(missing)
    report(done, kept, failed, time.perf_counter() - start)
    if failed:
        raise SomeFailed(f"{len(failed)} of {len(files)} files could not be denoised, see above")
    return done, kept


def report(done, kept, failed, seconds):
    """Say how many images were denoised, how many files kept, and name those that `failed`: `(name, error)`."""
    rate = f" ({done / seconds:,.0f} images/s)" if done else ""
    print(f"{done} denoised in {seconds:.1f} s{rate}, {kept} kept, {len(failed)} failed", file=sys.stderr)
    for name, error in sorted(failed):
        print(f"{printable(name)}: {printable(error)}", file=sys.stderr)


def _denoise_in_processes(model, parts, processes):
    """Yield `(part, what denoise_part returns)`. A part whose process died is tried again file by file."""
    lost = []
    for part, errors in map_in_processes(_denoiser_of_parts, (str(model),), parts, processes):
        if errors is not None:
            yield part, errors
        elif len(part) == 1:
            yield part, [(part[0].source, "the process that had it died; was memory short?")]
        else:
            lost += [[work] for work in part]
    if lost:
        yield from _denoise_in_processes(model, lost, processes)


def _denoiser_of_parts(model):
    warnings.filterwarnings("ignore", module=r"PIL\.")  # as in the command's own process
    return functools.partial(denoise_part, load_denoiser(model, threads=1))


def _read(source):
    with open(source, "rb") as file:
        return file.read()


def _write(target, content):
    with atomic_file(target, lasting=False) as temporary, open(temporary, "wb") as file:
        file.write(content)


def denoise_part(denoiser, part, read=_read, write=_write, each=map):
    """Denoise a list of `Work`; return `(source, error)` of those that failed.

    Args:
        denoiser: `keras_dae.denoise.denoiser.Denoiser`.
        part: list of `Work`.
        read, write: functions `source -> bytes` and `target, bytes -> None`.
        each: `map`, or what does the same in threads.
    """

    def finish(work, content):
        return content if isinstance(content, Exception) else attempt(write, work.target, content)

    contents = each(lambda work: attempt(read, work.source), part)
    errors = each(lambda pair: finish(*pair), zip(part, denoise_contents(denoiser, contents)))
    return [(work.source, first_line(error)) for work, error in zip(part, errors) if error is not None]


def denoise_pipe(denoiser, source, target):
    """Read an image file from the binary stream `source`, write the denoised one to `target`. Raises `UserError`."""
    (denoised,) = denoise_contents(denoiser, [source.read()])
    if isinstance(denoised, Exception):
        raise UserError(f"expected an image on standard input: {first_line(denoised)}")
    try:
        target.write(denoised)
        target.flush()
    except OSError as error:
        raise UserError(f"cannot write to standard output: {error.strerror}") from None


def plan(inputs, output_dir):
    """Return a list of `Work`, one for each file to denoise. Raises `UserError`, see `denoise_files`."""
    files = []
    for given in map(Path, inputs):
        if os.path.isdir(given):
            found = without_outputs(find_files(given, DENOISABLE_SUFFIXES), given, output_dir)
            files += [Work(file, Path(output_dir, file.relative_to(given))) for file in found]
        elif os.path.exists(given):
            files.append(Work(given, Path(output_dir, given.name)))
        else:
            raise UserError(f"expected a file or a folder, got {given}, which is not there")
    if not files:
        raise UserError(f"expected images, found none; looked for {', '.join(DENOISABLE_SUFFIXES)}")
    check_targets(files)
    return files


def without_outputs(files, folder, output_dir):
    """Return those of `files`, all below `folder`, that are not below `output_dir`, should that be a folder in it."""
    output_dir, place = Path(os.path.realpath(output_dir)), Path(os.path.realpath(folder))
    if output_dir == place or not output_dir.is_relative_to(place):
        return files
    outputs = folder / output_dir.relative_to(place)
    return [file for file in files if not file.is_relative_to(outputs)]


def check_targets(files):
    """Raise `UserError` if an output of these `Work`s is an input, or that of two."""
    real = functools.cache(os.path.realpath)  # of folders: asking for every file takes longer than reading it

    def place(path):
        return real(path.parent), path.name

    sources = {place(file.source) for file in files}
    by_target = {}
    for file in files:
        target = place(file.target)
        if target in sources:
            raise UserError(f"{file.target} would overwrite an input; give another --output-dir")
        if other := by_target.get(target):
            raise UserError(f"{other.source} and {file.source} would both become {file.target}; denoise them apart")
        by_target[target] = file


def split(files, length, most_files, most_bytes):
    """Return `files` as lists for one process each, of at most that many files and, but for single files, bytes.

    Args:
        files: list of `Work`.
        length: function of a `Work`: the bytes of its source.
        most_files, most_bytes: numbers.
    """
    parts, size = [], 0
    for file in files:
        bytes_of_file = length(file)
        size += bytes_of_file
        if not parts or size > most_bytes or len(parts[-1]) == most_files:
            parts.append([])
            size = bytes_of_file
        parts[-1].append(file)
    return parts
