"""The glyphs of the built-in digits, as distance fields: how far each point is from the middle of the strokes.

Coordinates are in glyph heights: x to the right, y downwards, and (0, 0) in the middle of the glyph.
"""

import functools
import pathlib

import matplotlib
import numpy as np
from matplotlib.font_manager import FontProperties
from matplotlib.path import Path
from matplotlib.textpath import TextPath

# Font files that matplotlib ships.
FONTS = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique"),
    *("DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSansMono-Oblique", "DejaVuSansMono-BoldOblique"),
    *("DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "DejaVuSerif-BoldItalic"),
    *("STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta"),
    *("cmr10", "cmb10", "cmss10", "cmtt10", "cmmi10"),
)
FIELD_SIZE = 64  # rows and columns of a distance field
FIELD_EXTENT = 0.8  # glyph heights from the middle of a distance field to its edges


@functools.cache
def stroke_fields() -> np.ndarray:
    """Return the distance fields of all digits in all FONTS, computed once per process. Do not change them.

    Returns:
        float64 `(fonts, 10, FIELD_SIZE, FIELD_SIZE)`: distances to the middle of the strokes, in glyph heights.
    """
    folder = pathlib.Path(matplotlib.get_data_path(), "fonts", "ttf")
    masks = [_glyph_mask(folder / f"{font}.ttf", str(digit)) for font in FONTS for digit in range(10)]
    return _distance_to(_thin(np.array(masks))).reshape(len(FONTS), 10, FIELD_SIZE, FIELD_SIZE)


def look_up(fields: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the values of distance fields at any coordinates, by bilinear interpolation.

    Args:
        fields: `(n, FIELD_SIZE, FIELD_SIZE)`.
        x: `(n, rows, columns)` in glyph heights. Points beyond the field's edge get the value at the edge.
        y: likewise.

    Returns:
        float64 `(n, rows, columns)` in glyph heights.
    """
    scale = (FIELD_SIZE - 1) / (2 * FIELD_EXTENT)
    x = np.clip((x + FIELD_EXTENT) * scale, 0, FIELD_SIZE - 1.001)
    y = np.clip((y + FIELD_EXTENT) * scale, 0, FIELD_SIZE - 1.001)
    column, row = x.astype(np.intp), y.astype(np.intp)
    x, y = x - column, y - row
    at = np.arange(len(fields))[:, None, None] * FIELD_SIZE**2 + row * FIELD_SIZE + column
    flat = fields.reshape(-1)
    above = flat.take(at) * (1 - x) + flat.take(at + 1) * x
    below = flat.take(at + FIELD_SIZE) * (1 - x) + flat.take(at + FIELD_SIZE + 1) * x
    return above * (1 - y) + below * y


def _glyph_mask(font_file, character):
    """Return which points of the field are inside the glyph: bool (FIELD_SIZE, FIELD_SIZE)."""
    path = TextPath((0, 0), character, size=100, prop=FontProperties(fname=font_file))
    low, high = path.get_extents().get_points()
    axis = np.linspace(-FIELD_EXTENT, FIELD_EXTENT, FIELD_SIZE) * (high - low)[1]
    points = np.stack(np.meshgrid(axis, -axis), axis=-1).reshape(-1, 2) + (low + high) / 2
    contours = [Path(polygon) for polygon in path.to_polygons()]
    # A hole's contour lies within another contour, so a point is inside if an odd number of contours contain it.
    inside = np.logical_xor.reduce([contour.contains_points(points) for contour in contours])
    return inside.reshape(FIELD_SIZE, FIELD_SIZE)


def _thin(masks):
    """Return the strokes of boolean images (n, rows, columns) one pixel wide (Zhang & Suen, CACM 27(3), 1984)."""
    masks = masks.copy()
    while True:
        before = masks.copy()
        for first in (True, False):  # the paper's two subiterations
            padded = np.pad(masks, ((0, 0), (1, 1), (1, 1)))
            # P2 ... P9 of the paper: clockwise from the pixel above.
            around = [
                padded[:, 1 + row : 1 + row + FIELD_SIZE, 1 + column : 1 + column + FIELD_SIZE]
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
    """Return the Euclidean distance of every pixel to the nearest true pixel of its image, in glyph heights."""
    from scipy.ndimage import distance_transform_edt  # slow to import, and not needed when the digits are cached

    pixels = np.stack([distance_transform_edt(~mask) for mask in masks])
    return pixels * (2 * FIELD_EXTENT / (FIELD_SIZE - 1))
