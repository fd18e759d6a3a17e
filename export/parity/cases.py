"""The inputs of the parity check, and what Keras makes of them."""

from typing import TYPE_CHECKING

import numpy as np

from keras_dae.data.digits import render_digits
from keras_dae.networks import NETWORKS, network_name
from keras_dae.networks.geometry import Grid

if TYPE_CHECKING:
    import keras

BATCH_SIZES = (1, 2, 7)
IMAGE_SIZES = ((28, 28), (20, 20), (64, 48), (37, 50), (17, 17), (5, 3), (1, 1))  # height, width
IMAGE_KINDS = ("noise", "digits", "zeros", "ones")
MOSAIC_SIDE = 8  # digits along each side of the picture that the `digits` cases are cut from


def parity_inputs(channels: int) -> dict[str, np.ndarray]:
    """Return the noisy batches of all cases, name -> batch. They are always the same.

    Each is float32 `(batch, height, width, channels)` in [0, 1]. There is one for every batch size, image size and
    kind of image, in that order, and the name says which: `digits 2×28×28`.

    Example:
        >>> inputs = parity_inputs(channels=1)
        >>> list(inputs)[:2], inputs["ones 7×37×50"].shape
        (['noise 1×28×28', 'digits 1×28×28'], (7, 37, 50, 1))
    """
    random = np.random.default_rng(0)
    mosaic = _digit_mosaic()
    inputs = {}
    for batch in BATCH_SIZES:
        for height, width in IMAGE_SIZES:
            shape = (batch, height, width, channels)
            corners = random.integers(0, (len(mosaic) - height, len(mosaic) - width), (batch, 2))
            crops = np.stack([mosaic[y : y + height, x : x + width, None] for y, x in corners])
            made = {
                "noise": random.random(shape),
                "digits": np.broadcast_to(crops, shape),
                "zeros": np.zeros(shape),
                "ones": np.ones(shape),
            }
            for kind in IMAGE_KINDS:
                inputs[f"{kind} {batch}×{height}×{width}"] = made[kind].astype(np.float32)
    return inputs


def reference(model: "keras.Model", noisy: np.ndarray) -> np.ndarray:
    """Return the output of the Keras model for images of any size.

    The images are continued by reflection to a size that the network takes, and the output is cropped. Its values are
    clipped to [0, 1], too: the output of a network without a last activation may leave that range.

    Args:
        model: the Keras model.
        noisy: float32 `(batch, height, width, channels)` in [0, 1].

    Returns:
        float32, of the same shape and range.
    """
    height, width = noisy.shape[1:3]
    grid = NETWORKS[network_name(model)].geometry.grid
    rows, columns = reflected_rows(height, grid), reflected_rows(width, grid)
    return np.asarray(model(noisy[:, rows][:, :, columns]))[:, :height, :width].clip(0, 1)


def reflected_rows(size: int, grid: Grid) -> list[int]:
    """Return the rows of an image of `size` rows in the order that continues it by reflection to the padded size.

    `export.graph.reflected_index` computes the same in another way, and is checked by this: here, the rows are listed.

    Example:
        >>> reflected_rows(5, Grid(multiple=4, min_padded_size=12, receptive_radius=22))
        [0, 1, 2, 3, 4, 3, 2, 1, 0, 1, 2, 3]
    """
    back_and_forth = [*range(size), *range(size - 2, 0, -1)]
    return [back_and_forth[row % len(back_and_forth)] for row in range(grid.padded_size(size))]


def _digit_mosaic() -> np.ndarray:
    """Return a square picture of MOSAIC_SIDE × MOSAIC_SIDE rendered digits: float64 `(side, side)` in [0, 1]."""
    digits = render_digits(MOSAIC_SIDE**2, seed=0)[0]
    height, width = digits.shape[1:]
    tiles = digits.reshape(MOSAIC_SIDE, MOSAIC_SIDE, height, width).transpose(0, 2, 1, 3)
    return tiles.reshape(MOSAIC_SIDE * height, MOSAIC_SIDE * width) / 255
