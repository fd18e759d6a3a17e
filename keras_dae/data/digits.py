"""The built-in data set: handwriting-like digits, rendered from the fonts that matplotlib ships.

A glyph is kept as its signed distance field, so that a random affine map and a random smooth warp are a lookup at
moved coordinates, and a random stroke width is another threshold. As in MNIST (LeCun et al. 1998) the result is
fitted into 20×20 pixels and placed in 28×28 by its centre of mass.

The same seed gives the same bytes on every machine: NumPy's frozen legacy generator, float64, rounded at the end.
"""

import os
import pathlib
import sys
from concurrent.futures import ThreadPoolExecutor

import matplotlib
import numpy as np
import platformdirs
from matplotlib.font_manager import FontProperties
from matplotlib.path import Path
from matplotlib.textpath import TextPath

from keras_dae._util.archives import UNREADABLE
from keras_dae._util.atomic import atomic_file
from keras_dae.errors import UserError

VERSION = 1  # of the rendering: part of the cache's name
COUNTS = (60_000, 10_000)  # training and test images, rendered from seeds 0 and 1

FONTS = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique"),
    *("DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSansMono-Oblique", "DejaVuSansMono-BoldOblique"),
    *("DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "DejaVuSerif-BoldItalic"),
    *("STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta"),
    *("cmr10", "cmb10", "cmss10", "cmtt10", "cmmi10"),
)
FIELD = 64  # a distance field is FIELD × FIELD values over [-EXTENT, EXTENT]², the glyph being 1 high
EXTENT = 0.8
COARSE = 28  # rows and columns of the grid on which a warped glyph's box is looked for
WAVES = 4  # cosines per axis in a random warp
CHUNK = 250  # images rendered at once: what the processor's cache holds


def render_digits(count, seed):
    """Return `(images, labels)`: uint8 `(count, 28, 28)` white on black, and uint8 `(count,)`.

    Seeds are non-negative ints; different seeds give independent sets.
    """
    fields = stroke_fields()
    # Whole chunks always, so that the first images do not depend on how many are asked for.
    generators = [np.random.RandomState([seed, chunk]) for chunk in range(-(-count // CHUNK))]
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        chunks = list(threads.map(lambda random: _render_chunk(random, fields), generators))
    images, labels = (np.concatenate(parts)[:count] for parts in zip(*chunks))
    return images, labels.astype(np.uint8)


def stroke_fields():
    """Return each glyph's distance to the middle of its strokes: `(fonts, 10, FIELD, FIELD)`, in glyph heights."""
    folder = pathlib.Path(matplotlib.get_data_path(), "fonts", "ttf")
    masks = [_glyph_mask(folder / f"{font}.ttf", str(digit)) for font in FONTS for digit in range(10)]
    return _distance_to(_thin(np.array(masks))).reshape(len(FONTS), 10, FIELD, FIELD)


def _glyph_mask(font_file, character):
    path = TextPath((0, 0), character, size=100, prop=FontProperties(fname=font_file))
    low, high = path.get_extents().get_points()
    axis = np.linspace(-EXTENT, EXTENT, FIELD) * (high - low)[1]
    points = np.stack(np.meshgrid(axis, -axis), axis=-1).reshape(-1, 2) + (low + high) / 2
    contours = [Path(polygon) for polygon in path.to_polygons()]
    # A hole's contour lies within another's: inside means within an odd number of them.
    return np.logical_xor.reduce([contour.contains_points(points) for contour in contours]).reshape(FIELD, FIELD)


def _thin(masks):
    """Return the strokes of boolean images (n, rows, columns) one pixel wide (Zhang & Suen, CACM 27(3), 1984)."""
    masks = masks.copy()
    while True:
        before = masks.copy()
        for first in (True, False):
            padded = np.pad(masks, ((0, 0), (1, 1), (1, 1)))
            # P2 ... P9 of the paper: clockwise from the pixel above.
            around = [
                padded[:, 1 + row : 1 + row + FIELD, 1 + column : 1 + column + FIELD]
                for row, column in ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))
            ]
            up, _, right, _, down, _, left, _ = around
            inked = np.sum(around, axis=0)
            crossings = np.sum([~a & b for a, b in zip(around, around[1:] + around[:1])], axis=0)
            border = ~(right & down & (up | left)) if first else ~(up & left & (right | down))
            masks &= ~((inked >= 2) & (inked <= 6) & (crossings == 1) & border)
        if (masks == before).all():
            return masks


def _distance_to(masks):
    """Return the Euclidean distance of every pixel to its image's nearest true one, in glyph heights."""
    offset2 = (np.arange(FIELD)[:, None] - np.arange(FIELD)) ** 2
    distance2 = np.where(masks, 0, 4 * FIELD**2)
    distance2 = np.stack([(distance2 + row[None, :, None]).min(1) for row in offset2], axis=1)
    distance2 = np.stack([(distance2 + column).min(2) for column in offset2], axis=2)
    return np.sqrt(distance2) * (2 * EXTENT / (FIELD - 1))


def _render_chunk(random, fields):
    labels = random.randint(0, 10, CHUNK)
    fonts = random.randint(0, len(FONTS), CHUNK)
    glyphs = fields[fonts, labels]
    half_width = random.uniform(0.035, 0.09, CHUNK)
    softness = random.uniform(0.9, 1.5, CHUNK)  # pixels from black to white across an edge
    affine = _random_affine(random)
    warp = random.normal(0, 1, (CHUNK, 2, WAVES, WAVES)) * _wave_amplitudes() * random.uniform(0.2, 1, (CHUNK, 1, 1, 1))

    # Where is the warped glyph? Look on a coarse grid, then spread that box over 20×20 pixels.
    coarse = np.broadcast_to(np.linspace(-1.1, 1.1, COARSE), (CHUNK, COARSE))
    half_cell = (coarse[0, 1] - coarse[0, 0]) / 2  # a stroke thinner than a cell must not be missed
    ink = _distance(glyphs, affine, warp, coarse, coarse) < half_width[:, None, None] + half_cell
    (top, bottom), (left, right) = _range_of(ink.any(2), coarse), _range_of(ink.any(1), coarse)
    pixel = (np.maximum(bottom - top, right - left) - half_cell) / 20
    steps = (np.arange(20) - 9.5) * pixel[:, None]
    rows, columns = (top + bottom)[:, None] / 2 + steps, (left + right)[:, None] / 2 + steps
    distance = half_width[:, None, None] - _distance(glyphs, affine, warp, rows, columns)
    ink = np.clip(0.5 + distance / (pixel * softness)[:, None, None], 0, 1)
    return _centred_by_mass(np.rint(255 * ink).astype(np.uint8)), labels


def _random_affine(random):
    """Return `(CHUNK, 2, 2)` area-preserving maps from output to glyph coordinates (x, y)."""
    angle = random.normal(0, 0.12, CHUNK)
    slant = random.normal(0.15, 0.25, CHUNK)
    aspect = np.exp(random.normal(0, 0.12, CHUNK))
    rotation = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], -1).reshape(-1, 2, 2)
    shear = np.stack([aspect, aspect * slant, np.zeros(CHUNK), 1 / aspect], -1).reshape(-1, 2, 2)
    return rotation @ shear


def _wave_amplitudes():
    order = np.arange(WAVES)
    amplitudes = 0.22 / (1 + order[:, None] + order) ** 1.2
    amplitudes[0, 0] = 0  # a shift, undone by the fit
    return amplitudes


def _distance(glyphs, affine, warp, rows, columns):
    """Return the warped glyphs' signed distance at each row and column: `(n, rows, columns)`."""
    orders = np.arange(WAVES) * np.pi
    row_waves = np.cos((rows[..., None] / 2.4 + 0.5) * orders)
    column_waves = np.cos((columns[..., None] / 2.4 + 0.5) * orders)
    moved = row_waves[:, None] @ warp @ column_waves.transpose(0, 2, 1)[:, None]
    x, y = columns[:, None, :], rows[:, :, None]
    a = affine[:, :, :, None, None]
    glyph_x, glyph_y = (a[:, axis, 0] * x + a[:, axis, 1] * y + moved[:, axis] for axis in (0, 1))
    return _bilinear(glyphs, glyph_x, glyph_y)


def _bilinear(fields, x, y):
    scale = (FIELD - 1) / (2 * EXTENT)
    x = np.clip((x + EXTENT) * scale, 0, FIELD - 1.001)
    y = np.clip((y + EXTENT) * scale, 0, FIELD - 1.001)
    column, row = x.astype(np.intp), y.astype(np.intp)
    x, y = x - column, y - row
    at = np.arange(len(fields))[:, None, None] * FIELD**2 + row * FIELD + column
    flat = fields.reshape(-1)
    above = flat.take(at) * (1 - x) + flat.take(at + 1) * x
    below = flat.take(at + FIELD) * (1 - x) + flat.take(at + FIELD + 1) * x
    return above * (1 - y) + below * y


def _range_of(inked, axis):
    """Return the first and the last coordinate on `axis` (n, k) that is inked (n, k)."""
    first = inked.argmax(1)
    last = inked.shape[1] - 1 - inked[:, ::-1].argmax(1)
    return np.take_along_axis(axis, first[:, None], 1)[:, 0], np.take_along_axis(axis, last[:, None], 1)[:, 0]


def _centred_by_mass(boxes):
    """Return 28×28 images with each 20×20 box shifted by whole pixels so that its centre of mass is in the middle."""
    images = np.zeros((len(boxes), 28, 28), np.uint8)
    mass = np.maximum(boxes.sum((1, 2), dtype=np.int64), 1)
    centre_row = (boxes.sum(2, dtype=np.int64) @ np.arange(20)) / mass
    centre_column = (boxes.sum(1, dtype=np.int64) @ np.arange(20)) / mass
    top = np.clip(np.rint(14 - centre_row), 0, 8).astype(int)
    left = np.clip(np.rint(14 - centre_column), 0, 8).astype(int)
    rows = top[:, None] + np.arange(20)
    columns = left[:, None] + np.arange(20)
    images[np.arange(len(boxes))[:, None, None], rows[:, :, None], columns[:, None, :]] = boxes
    return images


def cached_digits():
    """Return the built-in data set `(train, test)`: uint8 `(60000, 28, 28)` and `(10000, 28, 28)`.

    Rendered once, then kept in the user's cache folder; a cache that is damaged or cannot be written is no error.
    """
    path = pathlib.Path(platformdirs.user_cache_dir("keras_dae"), f"digits-{VERSION}.npz")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return arrays["x_train"], arrays["x_test"]
    except (FileNotFoundError, NotADirectoryError):
        pass
    except UNREADABLE as error:
        print(f"the cache {path} is damaged ({error}) and is rendered anew", file=sys.stderr)
    train, test = (render_digits(count, seed)[0] for seed, count in enumerate(COUNTS))
    try:
        with atomic_file(path) as temporary:
            np.savez_compressed(temporary, x_train=train, x_test=test)
    except UserError as error:
        print(f"the built-in digits are not cached: {error}", file=sys.stderr)
    return train, test
