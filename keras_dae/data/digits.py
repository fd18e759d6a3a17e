"""The built-in dataset: handwriting-like digits, rendered from the fonts that matplotlib ships.

A glyph is a distance field, see `keras_dae.data.glyphs`. A random affine map and a random smooth warp only move the
coordinates at which the distance is looked up, and a random stroke width is a threshold on it. As in MNIST (LeCun et
al. 1998), a digit is fitted into 20×20 pixels and placed in 28×28 pixels by its centre of mass.

The same seed gives the same bytes on every machine: the random numbers come from NumPy's frozen legacy generator, and
float64 values are rounded only at the end.

Coordinates are in glyph heights: x to the right, y downwards, and (0, 0) in the middle of the glyph.
"""

import pathlib
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import platformdirs

from keras_dae._util.archives import UNREADABLE
from keras_dae._util.atomic import atomic_file
from keras_dae._util.threads import cores
from keras_dae.data.glyphs import FONTS, look_up, stroke_fields
from keras_dae.errors import UserError

RENDERING_VERSION = 1  # part of the cache's file name; increase it when the rendered bytes change
SET_SIZES = (60_000, 10_000)  # training and test images, rendered from seeds 0 and 1
DIGITS_PER_CHUNK = 250  # rendered at once; that much fits into a processor's cache

# The style of a digit. These values are our own choice; tests/test_digits.py compares the result with MNIST.
HALF_WIDTH_RANGE = (0.035, 0.09)  # glyph heights; half of the stroke width
EDGE_WIDTH_RANGE = (0.9, 1.5)  # pixels from black to white across the edge of a stroke
ROTATION_STD = 0.12  # radians
SLANT_MEAN, SLANT_STD = 0.15, 0.25  # glyph heights to the right per glyph height upwards
LOG_STRETCH_STD = 0.12  # of the natural logarithm of the factor by which a digit gets narrower and taller
WARP_RANGE = (0.2, 1)  # factor of the amplitudes of all waves of a digit
WAVES = 4  # cosines per axis, of orders 0 to WAVES - 1
WAVE_AMPLITUDE, WAVE_DECAY = 0.22, 1.2  # amplitude / (1 + order along y + order along x) ** decay, in glyph heights
WAVE_DOMAIN = 2.4  # glyph heights; the cosine of order k has k half periods in this

SEARCH_EXTENT = 1.1  # glyph heights from the middle to the edges of the square in which a warped glyph is looked for
SEARCH_SIZE = 28  # rows and columns of the grid on which it is looked for

BOX_SIZE = 20  # pixels; the square that a digit is fitted into
IMAGE_SIZE = 28  # pixels


class Style(NamedTuple):
    """How the digits of a chunk are drawn. The first axis of each array has DIGITS_PER_CHUNK elements.

    Attributes:
        digit: int `(n,)`, from 0 to 9.
        font: int `(n,)`, index into FONTS.
        half_width: `(n,)`, half of the stroke width in glyph heights.
        edge_width: `(n,)`, pixels from black to white across the edge of a stroke.
        affine: `(n, 2, 2)`, area-preserving maps from output to glyph coordinates (x, y).
        warp: `(n, 2, WAVES, WAVES)`, amplitudes in glyph heights: how far each product of a cosine along y and a
            cosine along x moves the glyph coordinates (x, y).
    """

    digit: np.ndarray
    font: np.ndarray
    half_width: np.ndarray
    edge_width: np.ndarray
    affine: np.ndarray
    warp: np.ndarray


class Box(NamedTuple):
    """The smallest upright square around each drawn digit, in glyph heights: `(n,)` each."""

    centre_x: np.ndarray
    centre_y: np.ndarray
    side: np.ndarray


def render_digits(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return `(images, labels)`: uint8 `(count, 28, 28)` in 0 … 255, white on black, and uint8 `(count,)` in 0 … 9.

    Args:
        count: number of images, at least 1. The first images do not depend on it.
        seed: 0 or more. Different seeds give independent sets.

    Example:
        >>> images, labels = render_digits(10, seed=0)
        >>> images.shape, images.dtype.name, labels.shape
        ((10, 28, 28), 'uint8', (10,))
    """
    fields = stroke_fields()
    # Chunks are always rendered whole, so that the first images do not depend on `count`.
    generators = [np.random.RandomState([seed, chunk]) for chunk in range(-(-count // DIGITS_PER_CHUNK))]
    with ThreadPoolExecutor(cores()) as threads:
        chunks = list(threads.map(lambda random: _render_chunk(random, fields), generators))
    images, labels = (np.concatenate(arrays)[:count] for arrays in zip(*chunks))
    return images, labels.astype(np.uint8)


def _render_chunk(random, fields):
    style = draw_style(random)
    glyphs = fields[style.font, style.digit]
    return _centred_by_mass(rasterize(glyphs, style, find_box(glyphs, style))), style.digit


def draw_style(random: np.random.RandomState) -> Style:
    """Draw the style of a chunk of digits. Another order of the draws would give other digits."""
    n = DIGITS_PER_CHUNK
    digit = random.randint(0, 10, n)
    font = random.randint(0, len(FONTS), n)
    half_width = random.uniform(*HALF_WIDTH_RANGE, n)
    edge_width = random.uniform(*EDGE_WIDTH_RANGE, n)
    angle = random.normal(0, ROTATION_STD, n)
    slant = random.normal(SLANT_MEAN, SLANT_STD, n)
    stretch = np.exp(random.normal(0, LOG_STRETCH_STD, n))
    rotation = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], -1).reshape(-1, 2, 2)
    shear = np.stack([stretch, stretch * slant, np.zeros(n), 1 / stretch], -1).reshape(-1, 2, 2)
    warp = random.normal(0, 1, (n, 2, WAVES, WAVES)) * _wave_amplitudes() * random.uniform(*WARP_RANGE, (n, 1, 1, 1))
    return Style(digit, font, half_width, edge_width, rotation @ shear, warp)


def _wave_amplitudes():
    order = np.arange(WAVES)
    amplitudes = WAVE_AMPLITUDE / (1 + order[:, None] + order) ** WAVE_DECAY
    amplitudes[0, 0] = 0  # a constant shift, which the fit into the box would undo
    return amplitudes


def find_box(glyphs: np.ndarray, style: Style) -> Box:
    """Return the box of each digit when it is drawn in its style. It is found on a coarse grid.

    Args:
        glyphs: distance fields `(n, rows, columns)`, see `keras_dae.data.glyphs.stroke_fields`.
        style: style of the same n digits.
    """
    grid = np.broadcast_to(np.linspace(-SEARCH_EXTENT, SEARCH_EXTENT, SEARCH_SIZE), (len(glyphs), SEARCH_SIZE))
    half_cell = (grid[0, 1] - grid[0, 0]) / 2  # added to the strokes: one thinner than a cell must not be missed
    ink = _distance(glyphs, style, grid, grid) < style.half_width[:, None, None] + half_cell
    (top, bottom), (left, right) = _first_and_last(ink.any(2), grid), _first_and_last(ink.any(1), grid)
    side = np.maximum(bottom - top, right - left) - half_cell
    return Box((left + right) / 2, (top + bottom) / 2, side)


def _first_and_last(inked, coordinates):
    """Return the first and the last of the coordinates (n, k) that is inked (n, k): two arrays (n,)."""
    first = inked.argmax(1)
    last = inked.shape[1] - 1 - inked[:, ::-1].argmax(1)
    return tuple(np.take_along_axis(coordinates, index[:, None], 1)[:, 0] for index in (first, last))


def rasterize(glyphs: np.ndarray, style: Style, box: Box) -> np.ndarray:
    """Return the digits as they fill their boxes: uint8 `(n, BOX_SIZE, BOX_SIZE)` in 0 … 255, white on black.

    Args:
        glyphs: distance fields `(n, rows, columns)`, see `keras_dae.data.glyphs.stroke_fields`.
        style: style of the same n digits.
        box: where the digits are, see `find_box`.
    """
    pixel = box.side / BOX_SIZE  # glyph heights
    steps = (np.arange(BOX_SIZE) - (BOX_SIZE - 1) / 2) * pixel[:, None]
    distance = _distance(glyphs, style, box.centre_y[:, None] + steps, box.centre_x[:, None] + steps)
    inside = style.half_width[:, None, None] - distance  # glyph heights; negative outside the stroke
    ink = np.clip(0.5 + inside / (pixel * style.edge_width)[:, None, None], 0, 1)
    return np.rint(255 * ink).astype(np.uint8)


def _distance(glyphs, style, rows, columns):
    """Return the distance to the middle of the warped strokes, in glyph heights: `(n, rows, columns)`.

    `rows` and `columns` are the y coordinates `(n, rows)` and the x coordinates `(n, columns)` to look at.
    """
    orders = np.arange(WAVES) * np.pi
    row_waves = np.cos((rows[..., None] / WAVE_DOMAIN + 0.5) * orders)
    column_waves = np.cos((columns[..., None] / WAVE_DOMAIN + 0.5) * orders)
    moved = row_waves[:, None] @ style.warp @ column_waves.transpose(0, 2, 1)[:, None]
    x, y = columns[:, None, :], rows[:, :, None]
    affine = style.affine[:, :, :, None, None]
    glyph_x, glyph_y = (affine[:, axis, 0] * x + affine[:, axis, 1] * y + moved[:, axis] for axis in (0, 1))
    return look_up(glyphs, glyph_x, glyph_y)


def _centred_by_mass(boxes):
    """Return 28×28 images with each 20×20 box shifted by whole pixels so that its centre of mass is in the middle."""
    images = np.zeros((len(boxes), IMAGE_SIZE, IMAGE_SIZE), np.uint8)
    mass = np.maximum(boxes.sum((1, 2), dtype=np.int64), 1)
    centre_row = (boxes.sum(2, dtype=np.int64) @ np.arange(BOX_SIZE)) / mass
    centre_column = (boxes.sum(1, dtype=np.int64) @ np.arange(BOX_SIZE)) / mass
    top = np.clip(np.rint(IMAGE_SIZE / 2 - centre_row), 0, IMAGE_SIZE - BOX_SIZE).astype(int)
    left = np.clip(np.rint(IMAGE_SIZE / 2 - centre_column), 0, IMAGE_SIZE - BOX_SIZE).astype(int)
    rows = top[:, None] + np.arange(BOX_SIZE)
    columns = left[:, None] + np.arange(BOX_SIZE)
    images[np.arange(len(boxes))[:, None, None], rows[:, :, None], columns[:, None, :]] = boxes
    return images


def cached_digits() -> tuple[np.ndarray, np.ndarray]:
    """Return the built-in dataset `(train, test)`: uint8 `(60000, 28, 28)` and `(10000, 28, 28)` in 0 … 255.

    The digits are rendered once and then read from the user's cache folder. If the cache is damaged or cannot be
    written, a line on stderr says so.
    """
    path = pathlib.Path(platformdirs.user_cache_dir("keras_dae"), f"digits-{RENDERING_VERSION}.npz")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return arrays["x_train"], arrays["x_test"]
    except (FileNotFoundError, NotADirectoryError):
        pass
    except UNREADABLE as error:
        print(f"the cache {path} is damaged ({error}); the digits are rendered again", file=sys.stderr)
    train, test = (render_digits(count, seed)[0] for seed, count in enumerate(SET_SIZES))
    try:
        with atomic_file(path) as temporary:
            np.savez_compressed(temporary, x_train=train, x_test=test)
    except UserError as error:
        print(f"the built-in digits are not cached: {error}", file=sys.stderr)
    return train, test
