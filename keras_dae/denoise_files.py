"""Denoise files and folders: reading, denoising and writing overlap, and a bad file costs no other."""

import functools
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from keras_dae.denoise import TILE, check_image
from keras_dae.errors import UserError, first_line, printable
from keras_dae.files import whole_file
from keras_dae.image_files import find_files
from keras_dae.image_io import SUFFIXES, Page, decode, encode
from keras_dae.threads import map_ahead

THREADS = 2  # that read, and as many that write
AHEAD = 4  # files read, and written, ahead of what is done
MOST_IN_BATCH = 256  # images of one size that are denoised together


class SomeFailed(UserError):
    """Files that could not be denoised, by name; all others are done."""

    status = 1


@dataclass(frozen=True)
class Work:
    """A file on its way: read, denoised, written; `error` says in a line why it goes no further."""

    source: Path
    target: Path
    kind: str = ""
    pages: tuple[Page, ...] = ()
    error: str = ""


def denoise_files(inputs, denoiser, output_dir, overwrite=False):
    """Write the denoised versions of image files below `output_dir`; return `(denoised, kept)`, numbers of files.

    Files keep their names, folders their trees. What is there already is kept, so that a stopped job goes on with
    what is missing.

    Args:
        inputs: files and folders; folders are searched for all that ends in `keras_dae.image_io.SUFFIXES`.
        denoiser: `keras_dae.denoise.Denoiser`.
        output_dir: folder to write into.
        overwrite: whether existing outputs are replaced.

    Raises:
        UserError: an input is not there, two inputs would give one output, or an output is one of the inputs.
        SomeFailed: at the end, naming the files that could not be read, denoised or written.
    """
    files = plan(inputs, output_dir)
    missing = [file for file in files if overwrite or not file.target.exists()]
    start = time.perf_counter()
    with ThreadPoolExecutor(THREADS) as readers, ThreadPoolExecutor(THREADS) as writers:
        read = map_ahead(readers, _read, missing, AHEAD)
        written = map_ahead(writers, _write, _denoise(denoiser, read), AHEAD)
        bar = tqdm(written, "denoising", len(missing), unit=" images", disable=None)
        failed = [f"{printable(work.source)}: {work.error}" for work in bar if work.error]
    seconds = time.perf_counter() - start
    done, kept = len(missing) - len(failed), len(files) - len(missing)
    print(f"{done} denoised in {seconds:.1f} s, {kept} kept, {len(failed)} failed", file=sys.stderr)
    if failed:
        print(*failed, sep="\n", file=sys.stderr)
        raise SomeFailed(f"{len(failed)} of {len(files)} files could not be denoised, see above")
    return done, kept


def denoise_pipe(denoiser, source, target):
    """Read an image file from the binary stream `source`, write the denoised one to `target`. Raises `UserError`."""
    try:
        kind, pages = decode(source.read())
    except Exception as error:  # noqa: BLE001 - decoders raise what they like
        raise UserError(f"expected an image on standard input: {first_line(error)}") from None
    target.write(encode(kind, [replace(page, pixels=denoiser(page.pixels)) for page in pages]))


def plan(inputs, output_dir):
    """Return a list of `Work`, one for each file to denoise. Raises `UserError`, see `denoise_files`."""
    files = []
    for given in map(Path, inputs):
        if given.is_dir():
            files += [Work(file, Path(output_dir, file.relative_to(given))) for file in find_files(given, SUFFIXES)]
        elif given.exists():
            files.append(Work(given, Path(output_dir, given.name)))
        else:
            raise UserError(f"expected a file or a folder, got {given}, which is not there")
    if not files:
        raise UserError(f"expected images, found none; looked for {', '.join(SUFFIXES)}")
    real = functools.cache(Path.resolve)  # of folders: asking for every file takes longer than reading it

    def place(path):
        return real(path.parent) / path.name

    sources = {place(file.source) for file in files}
    by_target = {}
    for file in files:
        target = place(file.target)
        if target in sources:
            raise UserError(f"{file.target} would overwrite an input; give another --output-dir")
        if other := by_target.get(target):
            raise UserError(f"{other.source} and {file.source} would both become {file.target}; denoise them apart")
        by_target[target] = file
    return files


def _read(work):
    try:
        kind, pages = decode(work.source.read_bytes())
        for page in pages:
            check_image(page.pixels)
    except Exception as error:  # noqa: BLE001 - decoders raise what they like; the file is reported, not hidden
        return replace(work, error=first_line(error))
    return replace(work, kind=kind, pages=tuple(pages))


def _denoise(denoiser, works):
    """Yield `works` denoised; consecutive ones of one size and type are run together."""
    batch = []
    for work in works:
        if work.error:
            yield work
            continue
        if batch and (_batch_key(work) != _batch_key(batch[0]) or len(batch) == MOST_IN_BATCH):
            yield from _denoise_batch(denoiser, batch)
            batch = []
        batch.append(work)
    yield from _denoise_batch(denoiser, batch)


def _batch_key(work):
    """Return what works must have in common to be run together; a large or many-paged file is run alone."""
    pixels = work.pages[0].pixels
    if len(work.pages) > 1 or pixels.ndim > 3 or pixels.shape[0] * pixels.shape[1] > TILE**2:
        return work.source
    return pixels.shape, pixels.dtype


def _denoise_batch(denoiser, batch):
    if len(batch) > 1:
        images = np.stack([work.pages[0].pixels for work in batch])
        denoised = denoiser(images if images.ndim == 4 else images[..., None]).reshape(images.shape)
        for work, pixels in zip(batch, denoised):
            yield replace(work, pages=(replace(work.pages[0], pixels=pixels),))
    else:
        for work in batch:
            yield replace(work, pages=tuple(replace(page, pixels=denoiser(page.pixels)) for page in work.pages))


def _write(work):
    if work.error:
        return work
    try:
        content = encode(work.kind, work.pages)
        with whole_file(work.target, lasting=False) as temporary:
            temporary.write_bytes(content)
    except (OSError, ValueError, UserError) as error:
        return replace(work, pages=(), error=first_line(error))
    return replace(work, pages=())
