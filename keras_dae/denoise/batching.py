"""Content of image files in, content of denoised files out. All engines use it, wherever the files come from."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from keras_dae.denoise.denoiser import TILE, Denoiser, check_image
from keras_dae.errors import first_line
from keras_dae.images.codec import Page, decode, encode

MAX_BATCH_FILES, MAX_BATCH_BYTES = 256, 2**20  # of the files in a batch; a larger file is a batch alone

Result = TypeVar("Result")


@dataclass(frozen=True)
class Decoded:
    """An image file that was read, see `keras_dae.images.codec.decode`.

    Attributes:
        kind: of the file.
        pages: images in the file.
    """

    kind: str
    pages: list[Page]


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


def denoise_contents(denoiser: Denoiser, contents: Iterable[bytes | Failed]) -> Iterator[bytes | Failed]:
    """Yield, in the same order, the content of each denoised file, or `Failed`.

    Consecutive images of one size and type are denoised in one batch. So several contents are taken before the first
    result is yielded.

    Args:
        denoiser: runs the network.
        contents: bytes, each the content of a file that `keras_dae.images.codec.decode` accepts. `Failed`, for a file
            that could not be read, is yielded unchanged.
    """
    batch: list[Decoded | Failed] = []
    batch_key, size = None, 0
    for content in contents:
        file = content if isinstance(content, Failed) else attempt(_decode, content)
        key = _batch_key(file.pages) if isinstance(file, Decoded) else batch_key
        if batch and (key != batch_key or len(batch) == MAX_BATCH_FILES or size > MAX_BATCH_BYTES):
            yield from _denoise_batch(denoiser, batch)
            batch, size = [], 0
        batch.append(file)
        batch_key = key
        size += 0 if isinstance(content, Failed) else len(content)
    yield from _denoise_batch(denoiser, batch)


def _decode(content: bytes) -> Decoded:
    kind, pages = decode(content)
    for page in pages:
        check_image(page.pixels)
    return Decoded(kind, pages)


def _batch_key(pages: Sequence[Page]) -> object:
    """Return a key that is equal for files that can be denoised in one batch."""
    pixels = pages[0].pixels
    if len(pages) > 1 or pixels.ndim > 3 or pixels.shape[0] * pixels.shape[1] > TILE**2:
        return object()  # equal to no other
    return pixels.shape, pixels.dtype


def _denoise_batch(denoiser: Denoiser, batch: Sequence[Decoded | Failed]) -> Iterator[bytes | Failed]:
    """Yield, in order, the content of each denoised file of a batch, or `Failed`."""
    decoded = {index: file for index, file in enumerate(batch) if isinstance(file, Decoded)}
    denoised = attempt(_denoise, denoiser, list(decoded.values()))
    denoised_at = {} if isinstance(denoised, Failed) else dict(zip(decoded, denoised))
    for index, file in enumerate(batch):
        if isinstance(file, Failed):
            yield file
        elif isinstance(denoised, Failed):
            yield denoised
        else:
            yield attempt(encode, file.kind, denoised_at[index])


def _denoise(denoiser: Denoiser, files: Sequence[Decoded]) -> list[list[Page]]:
    """Return the denoised pages of each file. Several files must have one page each, all of one shape and type."""
    if not files:
        return []
    if len(files) == 1:
        return [[page._replace(pixels=denoiser(page.pixels)) for page in files[0].pages]]
    pages = [file.pages[0] for file in files]
    images = np.stack([page.pixels for page in pages])
    denoised = denoiser(images if images.ndim == 4 else images[..., None]).reshape(images.shape)
    return [[page._replace(pixels=pixels)] for page, pixels in zip(pages, denoised)]
