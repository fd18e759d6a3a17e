"""Denoise the arrays of an .npz file, of which one at a time is in memory."""

import io
from collections.abc import Iterator

import numpy as np

from keras_dae.denoise.arrays import check_image, is_stack
from keras_dae.denoise.denoiser import Denoiser
from keras_dae.denoise.notes import Denoised, notes_of
from keras_dae.denoise.white import White, choose_white, white_of
from keras_dae.errors import UserError
from keras_dae.images.npy import iterate_arrays, save_arrays


def denoise_archive(denoiser: Denoiser, content: bytes, white: White) -> Denoised:
    """Return an .npz file with all of its arrays denoised.

    The arrays are read twice: all are checked, and white is measured, before the first one is denoised.

    Args:
        denoiser: runs the network.
        content: of the file.
        white: see `keras_dae.denoise.white.choose_white`. All arrays share one.

    Raises:
        UserError: an array is not an image or images.
        ValueError: there is no array, or the file is damaged, or a white is given that does not fit.
        Exception: others, see `keras_dae._util.archives.UNREADABLE`.
    """
    clip = denoiser.trained_on.clip
    chosen = choose_white((array for _, array in _arrays(content, clip)), white)
    differences, stacks = [], []

    def denoised() -> Iterator[tuple[str, np.ndarray]]:
        for name, array in _arrays(content, clip):
            image = array, white_of(array, chosen)
            differences.append(denoiser.difference(*image))
            stacks.append(is_stack(array))
            yield name, denoiser.denoise(*image)

    file = io.BytesIO()
    save_arrays(file, denoised())
    if not differences:
        raise ValueError("expected images, got an .npz without arrays")
    return Denoised(file.getvalue(), notes_of(chosen if white == "auto" else None, differences, sum(stacks)))


def _arrays(content: bytes, clip: bool) -> Iterator[tuple[str, np.ndarray]]:
    for name, array in iterate_arrays(io.BytesIO(content)):
        try:
            check_image(array, clip)
        except UserError as error:
            raise UserError(f"{name}: {error}") from None
        yield name, array
