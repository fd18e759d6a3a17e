"""Content of image files in, content of denoised files out. All engines use it, wherever the files come from."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from keras_dae.denoise.archive import denoise_archive
from keras_dae.denoise.arrays import check_image, colours, is_stack
from keras_dae.denoise.denoiser import TILE, Denoiser
from keras_dae.denoise.notes import Denoised, Note, notes_of
from keras_dae.denoise.white import White, choose_white, white_of
from keras_dae.errors import first_line
from keras_dae.images.codec import decode, encode
from keras_dae.images.page import Page
from keras_dae.images.unit_range import type_white

MAX_BATCH_FILES, MAX_BATCH_BYTES = 256, 2**20  # of the files in a batch; a larger file is a batch alone

ZIP_MAGIC = b"PK"

Result = TypeVar("Result")
DenoisedPages = tuple[list[Page], tuple[Note, ...]]  # of one file, and the notes about it


@dataclass(frozen=True)
class Decoded:
    """An image file that was read, see `keras_dae.images.codec.decode`.

    Attributes:
        kind: of the file.
        pages: images in the file.
        white: the integer that stands for 1 in all pages; None for the largest value of each page's type.
        measured: whether `white` was not given.
    """

    kind: str
    pages: list[Page]
    white: int | None
    measured: bool


@dataclass(frozen=True)
class Archive:
    """An .npz file. It is not read in advance, because its arrays together may be larger than the memory.

    Attributes:
        content: of the file.
        white: given, see `keras_dae.denoise.white.choose_white`.
    """

    content: bytes
    white: White


@dataclass(frozen=True)
class Failed:
    """Stands in the place of a file that could not be read, denoised or written.

    Attributes:
        error: one line that says why.
    """

    error: str


def attempt(function: Callable[..., Result], *args: Any) -> Result | Failed:
    """Return what `function` returns, or `Failed` if it raises an exception.

    A programming error in `function` is also reported as a failure of the file.

    Example:
        >>> attempt(int, "12"), attempt(int, "x")
        (12, Failed(error="invalid literal for int() with base 10: 'x'"))
    """
    try:
        return function(*args)
    except Exception as error:  # noqa: BLE001 - decoders raise exceptions of any type
        return Failed(first_line(error))


def denoise_contents(
    denoiser: Denoiser, contents: Iterable[bytes | Failed], white: White = "auto"
) -> Iterator[Denoised | Failed]:
    """Yield, in the same order, each denoised file, or `Failed`.

    Consecutive images of one size and type are denoised in one batch. So several contents are taken before the first
    result is yielded. If a batch fails, its images are tried one by one.

    Args:
        denoiser: runs the network.
        contents: bytes, each the content of a file that `keras_dae.images.codec.decode` accepts. `Failed`, for a file
            that could not be read, is yielded unchanged.
        white: the integer that stands for 1; `type` or `auto`, see `keras_dae.denoise.white.choose_white`.
    """
    batch: list[Decoded | Archive | Failed] = []
    batch_key, size = None, 0
    for content in contents:
        file = content if isinstance(content, Failed) else attempt(_decode, content, white, denoiser.trained_on.clip)
        key = batch_key if isinstance(file, Failed) else _batch_key(file)
        if batch and (key != batch_key or len(batch) == MAX_BATCH_FILES or size > MAX_BATCH_BYTES):
            yield from _denoise_batch(denoiser, batch)
            batch, size = [], 0
        batch.append(file)
        batch_key = key
        size += 0 if isinstance(content, Failed) else len(content)
    yield from _denoise_batch(denoiser, batch)


def _decode(content: bytes, white: White, clip: bool) -> Decoded | Archive:
    if content.startswith(ZIP_MAGIC):
        return Archive(content, white)
    kind, pages = decode(content)
    for page in pages:
        check_image(page.pixels, clip)
    declared = max((page.white for page in pages if page.white), default=None)
    return Decoded(kind, pages, choose_white([page.pixels for page in pages], white, declared), white == "auto")


def _batch_key(file: Decoded | Archive) -> object:
    """Return a key that is equal for files that can be denoised in one batch."""
    if isinstance(file, Archive) or len(file.pages) > 1:
        return object()  # equal to no other
    pixels = file.pages[0].pixels
    if pixels.ndim > 3 or is_stack(pixels) or pixels.shape[0] * pixels.shape[1] > TILE**2:
        return object()
    return pixels.shape, pixels.dtype, file.white


def _denoise_batch(denoiser: Denoiser, batch: Sequence[Decoded | Archive | Failed]) -> Iterator[Denoised | Failed]:
    """Yield, in order, each denoised file of a batch, or `Failed`."""
    decoded = [file for file in batch if isinstance(file, Decoded)]
    denoised = iter(_denoise_each(denoiser, decoded))
    for file in batch:
        if isinstance(file, Failed):
            yield file
        elif isinstance(file, Archive):
            yield attempt(denoise_archive, denoiser, file.content, file.white)
        else:
            result = next(denoised)
            yield result if isinstance(result, Failed) else attempt(_encode, file, *result)


def _denoise_each(denoiser: Denoiser, files: Sequence[Decoded]) -> Sequence[DenoisedPages | Failed]:
    """Return the denoised pages of each file and the notes about it, or `Failed`.

    If the files fail together, for example because memory is short, they are tried one by one.
    """
    if len(files) == 1:
        return [attempt(_denoise_pages, denoiser, files[0])]
    together = attempt(_denoise_together, denoiser, files) if files else []
    if not isinstance(together, Failed):
        return together
    return [attempt(_denoise_pages, denoiser, file) for file in files]


def _denoise_pages(denoiser: Denoiser, file: Decoded) -> DenoisedPages:
    """Return the denoised pages of one file, and the notes about it."""
    images = [(page.pixels, white_of(page.pixels, file.white)) for page in file.pages]
    pages = [page._replace(pixels=denoiser.denoise(*image)) for page, image in zip(file.pages, images)]
    return pages, _notes(file, [denoiser.difference(*image) for image in images])


def _denoise_together(denoiser: Denoiser, files: Sequence[Decoded]) -> list[DenoisedPages]:
    """Return the same for several files with one page each, all of one shape, type and white."""
    stack = np.stack([file.pages[0].pixels for file in files])
    images, white = stack if stack.ndim == 4 else stack[..., None], white_of(stack, files[0].white)
    denoised = denoiser.denoise(images, white).reshape(stack.shape)
    words = denoiser.trained_on.differences(colours(images), white or type_white(stack.dtype))
    return [
        ([file.pages[0]._replace(pixels=pixels)], _notes(file, [word]))
        for file, pixels, word in zip(files, denoised, words)
    ]


def _notes(file: Decoded, differences: Sequence[str]) -> tuple[Note, ...]:
    stacks = sum(is_stack(page.pixels) for page in file.pages)
    return notes_of(file.white if file.measured else None, differences, stacks)


def _encode(file: Decoded, pages: list[Page], notes: tuple[Note, ...]) -> Denoised:
    lost = dict.fromkeys(text for page in pages for text in page.lost)  # each once
    return Denoised(encode(file.kind, pages), (*notes, *(Note("lost", text) for text in lost)))
