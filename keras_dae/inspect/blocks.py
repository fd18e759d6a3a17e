"""An image cut into blocks of 16×16 pixels, and what is measured in each of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BLOCK = 16  # pixels; a multiple of CELL
CELL = 4
MIN_SIDE = BLOCK + 2  # of an image: a block, and a border of one pixel for the operator
MAX_PIXELS = 2**20  # measured in each image, all channels together
MAX_SATURATED = 0.02  # fraction of a block's pixels
MAX_SATURATED_AT_LEAST = 0.8  # if almost all blocks have more than that, as on overexposed paper
MIN_FRACTION, MIN_BLOCKS = 0.05, 20  # of all blocks that are not saturated throughout; and that many


@dataclass(frozen=True)
class Blocks:
    """Statistics of blocks, in the units of the pixels. All but `pixels` have the shape `(blocks,)`, float32.

    Attributes:
        pixels: float32 `(blocks, 16, 16)`, minus the mean of each block.
        mean: of the pixels.
        variance: of the pixels minus a plane fitted to them. It has all that the block contains: noise and detail.
        operator_variance: the mean square of Immerkær's operator, see `operator_of`. For noise that is independent from
            pixel to pixel, it is the noise's variance; even gradients add nothing to it, and detail adds little.
        structure: variance of the means of 4×4 pixels minus that plane. Detail makes it large. The operator does not
            see such slow changes, so choosing blocks by their structure does not favour a high or a low noise.
        saturated: fraction of the pixels that are at one of the ends of the image's range.
    """

    pixels: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    operator_variance: np.ndarray
    structure: np.ndarray
    saturated: np.ndarray

    def __len__(self) -> int:
        return len(self.mean)

    def usable(self) -> np.ndarray:
        """Return the indices of the blocks that are not saturated.

        If nearly all blocks are partly saturated, as in a scan whose paper is white, these are returned, too.
        """
        least = max(MIN_BLOCKS, MIN_FRACTION * np.count_nonzero(self.saturated < 1))
        few = np.flatnonzero(self.saturated <= MAX_SATURATED)
        return few if len(few) >= least else np.flatnonzero(self.saturated <= MAX_SATURATED_AT_LEAST)


def operator_of(pixels: np.ndarray) -> np.ndarray:
    """Return Immerkær's operator applied to the last two axes, which become shorter by 2.

    It is [1 −2 1] along both axes, divided by 6. White noise keeps its standard deviation. (J. Immerkær, "Fast noise
    variance estimation", Computer Vision and Image Understanding 64, 1996.)

    Example:
        >>> operator_of(np.add.outer(np.arange(3.0), np.arange(3.0)))
        array([[0.]])
    """
    rows = pixels[..., :-2, :] + pixels[..., 2:, :] - 2 * pixels[..., 1:-1, :]
    result = rows[..., :-2] + rows[..., 2:] - 2 * rows[..., 1:-1]
    result /= 6
    return result


def blocks_of(image: np.ndarray, max_pixels: int = MAX_PIXELS) -> Blocks:
    """Cut the channels of an image into blocks and measure them.

    Of a large image, rows of blocks in equal distances are taken.

    Args:
        image: `(height, width, channels)`, bool, integers or floats, at least 18×18 pixels. The smallest and the
            largest value of a channel count as saturated.
        max_pixels: how many pixels are measured, about, in all channels together.
    """
    return _joined(
        [_blocks_of_channel(image[..., index], max_pixels / image.shape[-1]) for index in range(image.shape[-1])]
    )


def _blocks_of_channel(channel: np.ndarray, max_pixels: float) -> Blocks:
    down, across = ((side - 2) // BLOCK for side in channel.shape)
    width = across * BLOCK + 2
    step = max(1, math.ceil(down * BLOCK * width / max_pixels))
    starts = range((down - 1) % step // 2 * BLOCK, down * BLOCK, step * BLOCK)
    bands = np.stack([channel[start : start + BLOCK + 2, :width] for start in starts])
    low, high = channel.min(), channel.max()
    inner = bands[:, 1:-1, 1:-1]
    saturated = _cell_sums(((inner <= low) | (inner >= high)).astype(np.uint8))

    values = bands.astype(np.float32)
    operator = operator_of(values)
    np.square(operator, out=operator)
    cells = _in_blocks(_cell_sums(values[:, 1:-1, 1:-1]), BLOCK // CELL) / CELL**2
    mean = cells.mean((1, 2))
    cells -= mean[:, None, None]
    pixels = _in_blocks(values[:, 1:-1, 1:-1], BLOCK)
    pixels -= mean[:, None, None]  # before the squares, which would lose the noise of 16 bits in float32
    places = CELL * (np.arange(BLOCK // CELL, dtype=np.float32) - (BLOCK // CELL - 1) / 2)
    squares = (BLOCK // CELL) * (places**2).sum()
    slopes = np.stack([cells.sum(1) @ places, cells.sum(2) @ places]) / squares
    structure = (cells**2).mean((1, 2)) - (slopes**2).sum(0) * (places**2).mean()
    plane = (slopes**2).sum(0) * (BLOCK**2 - 1) / 12
    degrees = BLOCK**2 / (BLOCK**2 - 3)  # three are fitted
    variance = (np.einsum("nij,nij->n", pixels, pixels) / BLOCK**2 - plane) * degrees
    return Blocks(
        pixels,
        mean,
        np.maximum(variance, 0),
        _in_blocks(_cell_sums(operator), BLOCK // CELL).sum((1, 2)) / BLOCK**2,
        np.maximum(structure, 0),
        _in_blocks(saturated, BLOCK // CELL).sum((1, 2), dtype=np.float32) / BLOCK**2,
    )


def _cell_sums(bands: np.ndarray) -> np.ndarray:
    """Return the sums over cells of 4×4 values of `(bands, height, width)`. Slices are faster than a reshape here."""
    rows = bands[:, 0::4] + bands[:, 1::4] + bands[:, 2::4] + bands[:, 3::4]
    return rows[..., 0::4] + rows[..., 1::4] + rows[..., 2::4] + rows[..., 3::4]


def _in_blocks(bands: np.ndarray, side: int) -> np.ndarray:
    """Cut `(bands, height, width)` into `(blocks, side, side)`."""
    count, height, width = bands.shape
    cut = bands.reshape(count, height // side, side, width // side, side).swapaxes(2, 3)
    return cut.reshape(-1, side, side)


def _joined(parts: Sequence[Blocks]) -> Blocks:
    if len(parts) == 1:
        return parts[0]
    names = ("pixels", "mean", "variance", "operator_variance", "structure", "saturated")
    return Blocks(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))
