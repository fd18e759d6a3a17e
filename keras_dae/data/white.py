"""The white of a dataset: the integer that becomes 1, one for all of its images."""

import sys
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from keras_dae.errors import UserError, printable
from keras_dae.images.unit_range import range_white


class Depth(NamedTuple):
    """What an image uses of the range of its type.

    Attributes:
        dtype: name of the type: `uint8`, `uint16` or `float32`.
        maximum: the largest value.
        declared: the white that the file declares; None if it declares none.
    """

    dtype: str
    maximum: float
    declared: int | None = None


class White(NamedTuple):
    """The integer that becomes 1.

    Attributes:
        value: of the images of this type; 8-bit images among 16-bit ones keep 255.
        dtype: `uint16` if there are such images, or else `uint8`.
    """

    value: int
    dtype: str

    def of(self, dtype: np.dtype | str) -> int | None:
        """Return the white of images of a type, as `compact` takes it."""
        return self.value if dtype == self.dtype else None


def dataset_white(option: str | int, depths: Iterable[Depth], name: str) -> White:
    """Return the white of all images of a dataset. For 16-bit images, a line on stderr says what it is.

    Args:
        option: `TrainConfig.white`.
        depths: one for each image.
        name: name of the dataset, for messages.

    Raises:
        UserError: a number is given as white, but there are only floats, whose white is 1, or the number is beyond the
            range of 8-bit images, and there are no others.

    Example:
        >>> dataset_white("type", [Depth("uint8", 80)], "scans")
        White(value=255, dtype='uint8')
    """
    depths = list(depths)
    deep = [depth for depth in depths if depth.dtype == "uint16"]
    if not deep:
        if not isinstance(option, int):
            return White(255, "uint8")
        if depths and all(depth.dtype not in ("uint8", "bool") for depth in depths):
            raise UserError(f"expected 8-bit or 16-bit images for --white {option}, got floats in {name}")
        if depths and option > 255:
            raise UserError(f"expected --white from 1 to 255, the largest value of 8-bit images, got {option}")
        return White(option, "uint8")
    maximum = int(max(depth.maximum for depth in deep))
    declared = max((depth.declared for depth in deep if depth.declared), default=None)
    if isinstance(option, int):
        white, source = option, "as given"
    elif option == "type":
        white, source = 65535, "the largest value of the type"
    else:
        white = range_white(maximum, np.uint16, declared)
        source = "as the files declare" if white == declared else "as measured; --white sets it"
    print(
        f"{printable(name)}: the largest value of the 16-bit images is {maximum}; {white} becomes white, {source}",
        file=sys.stderr,
    )
    return White(white, "uint16")
