"""Image files' bytes in, denoised files' bytes out: what the engines share, wherever the bytes come from and go."""

import itertools

import numpy as np

from keras_dae.denoise.denoiser import TILE, check_image
from keras_dae.images.codec import decode, encode

BATCH_FILES, BATCH_BYTES = 256, 2**20  # decoded at once; a larger file goes alone


def attempt(function, *arguments):
    """Return what `function` returns, or the `Exception` that it raised: one file's failure costs no other."""
    try:
        return function(*arguments)
    except Exception as error:  # noqa: BLE001 - decoders raise what they like; the file is reported, not hidden
        return error


def denoise_contents(denoiser, contents):
    """Yield, in order, the denoised bytes of image files, or the `Exception` that stood in the way.

    Consecutive images of one size and type are run together.

    Args:
        denoiser: `keras_dae.denoise.denoiser.Denoiser`.
        contents: bytes, each a file as `keras_dae.images.codec.decode` takes it; an `Exception` comes out as it is.
    """
    batch, batch_key, size = [], None, 0
    for content in contents:
        item = content if isinstance(content, Exception) else attempt(_decode, content)
        key = batch_key if isinstance(item, Exception) else _batch_key(item[1])
        if batch and (key != batch_key or len(batch) == BATCH_FILES or size > BATCH_BYTES):
            yield from _denoise_batch(denoiser, batch)
            batch, size = [], 0
        batch.append(item)
        batch_key = key
        size += 0 if isinstance(content, Exception) else len(content)
    yield from _denoise_batch(denoiser, batch)


def _decode(content):
    kind, pages = decode(content)
    for page in pages:
        check_image(page.pixels)
    return kind, pages


def _batch_key(pages):
    """Return what files must have in common to be run together, or what no other has."""
    pixels = pages[0].pixels
    if len(pages) > 1 or pixels.ndim > 3 or pixels.shape[0] * pixels.shape[1] > TILE**2:
        return object()
    return pixels.shape, pixels.dtype


def _denoise_batch(denoiser, batch):
    """Yield the denoised bytes of each `(kind, pages)` in a batch, and each `Exception` as it is."""
    readable = [pages for _, pages in (item for item in batch if not isinstance(item, Exception))]
    denoised = attempt(_denoise, denoiser, readable) if readable else ()
    denoised = itertools.repeat(denoised) if isinstance(denoised, Exception) else iter(denoised)
    for item in batch:
        pages = item if isinstance(item, Exception) else next(denoised)
        yield pages if isinstance(pages, Exception) else attempt(encode, item[0], pages)


def _denoise(denoiser, batch):
    """Return the denoised pages of each file in a batch, which is one file, or several of one page and one size."""
    if len(batch) == 1:
        return [[page._replace(pixels=denoiser(page.pixels)) for page in batch[0]]]
    images = np.stack([page.pixels for (page,) in batch])
    denoised = denoiser(images if images.ndim == 4 else images[..., None]).reshape(images.shape)
    return [[page._replace(pixels=pixels)] for (page,), pixels in zip(batch, denoised)]
