"""Which integer is white in a file or an array: given, measured, or the largest value of the type."""

from collections.abc import Iterable
from typing import Literal

import numpy as np

from keras_dae.denoise.arrays import colours
from keras_dae.images.unit_range import check_white, range_white, type_white

White = int | Literal["auto", "type"]


class PartOfRangeWarning(UserWarning):
    """An image uses only a part of its type's range, and white was taken to be less than the type's largest value."""


def choose_white(images: Iterable[np.ndarray], white: White, declared: int | None = None) -> int | None:
    """Return the white that all images of a file share; None for the largest value of each image's type.

    Args:
        images: the images of the file, `(height, width)` or with channels; alpha is not looked at.
        white: the integer that stands for 1; `type` for the largest value of the type; or `auto`, which measures uint16
            images, see `keras_dae.images.unit_range.range_white`.
        declared: the white that the file declares, if it does.

    Raises:
        ValueError: `white` is none of these; or a white is given, and an image is float, or of a smaller type, or has
            larger values.

    Example:
        >>> choose_white([np.array([[0, 4000]], np.uint16)], "auto")
        4095
    """
    if white not in ("auto", "type") and not isinstance(white, (int, np.integer)):
        raise ValueError(f"expected white to be an integer, 'auto' or 'type', got {white!r}")
    if white == "type":
        return None
    maximum = 0
    for image in images:
        if white != "auto":
            check_white(colours(image), white)
        elif is_deep(image):
            maximum = max(maximum, int(colours(image).max(initial=0)))
    chosen = range_white(maximum, np.uint16, declared) if white == "auto" else white
    return None if chosen == type_white(np.uint16) else chosen


def white_of(image: np.ndarray, white: int | None) -> int | None:
    """Return the white of one image of a file whose white is `white`. Images of smaller types keep their own."""
    return None if white is None or white > type_white(image.dtype) else white


def is_deep(image: np.ndarray) -> bool:
    """Return whether an image is uint16, in any byte order."""
    return image.dtype.kind == "u" and image.dtype.itemsize == 2
