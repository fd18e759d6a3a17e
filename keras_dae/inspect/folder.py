"""`inspect_folder`: the noise of all images of a folder."""

import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from keras_dae._util.progress import ProgressBar
from keras_dae._util.threads import cores, map_ahead
from keras_dae.data.pairs import find_images, matched_pairs
from keras_dae.data.white import White, dataset_white
from keras_dae.errors import UserError
from keras_dae.images.read import IMAGE_SUFFIXES
from keras_dae.inspect.correlation import lag_of
from keras_dae.inspect.curve import (
    BlockSample,
    DifferenceBins,
    NoiseCurve,
    curve_of_blocks,
    curve_of_differences,
)
from keras_dae.inspect.image_noise import ImageNoise, measure_file

MIN_SHIFT = 0.25  # pixels; that much can be measured, and makes detail count as noise
LEVELS = 255.0  # the scale of the literature, on which all results are given
MAX_SHOWN = 4  # flattest blocks


class Spread(NamedTuple):
    """The median over the files, and the quartiles."""

    low: float
    median: float
    high: float


@dataclass(frozen=True)
class NoiseReport:
    """The noise of a folder. Levels and deviations are on the scale from 0 to 255, where 255 is white.

    Attributes:
        folder: as it was given.
        second_dir: folder of the second shots; None without.
        files: how many images were measured, without copies and without images of one value.
        skipped: `path: reason` of each file that could not be measured.
        copies: how many files show the same image as another file.
        constant: how many images have only one value.
        is_colour: whether any image has colours.
        kinds: how many files there are of each format, by name.
        types: the types of the pixels, such as `uint8`.
        white: the integer that is white, of the images of `white.dtype`.
        minimum, maximum: of all values, in the units of the files.
        levels: how many different values a file can have between them.
        black, full: fractions of the values that are 0, and that are white.
        sigma: standard deviation of the noise, see `keras_dae.inspect.level`; from pairs of shots if there are any.
        deviation: in the flattest 2 % of the blocks; detail and correlated noise count, too. Median of the files.
        growth: see `keras_dae.inspect.correlation.Autocorrelation`; median of the files.
        map: autocorrelation, see `keras_dae.inspect.correlation.Autocorrelation`; median of the files.
        curve: noise curve of all files; None if the brightness varies too little.
        gain: of the curve of each file, in 0 … 255 variance per level; None if no file has a curve.
        read_noise: likewise.
        shifted: how many pairs of shots are shifted by a part of a pixel, or by one.
        flattest: float32 `(at most 4, 16, 16)`: flat blocks of one file, minus a plane.
    """

    folder: str
    second_dir: str | None
    files: int
    skipped: tuple[str, ...]
    copies: int
    constant: int
    is_colour: bool
    kinds: dict[str, int]
    types: tuple[str, ...]
    white: White
    minimum: float
    maximum: float
    levels: int | None
    black: float
    full: float
    sigma: Spread
    deviation: float
    growth: float
    map: np.ndarray
    curve: NoiseCurve | None
    gain: Spread | None
    read_noise: Spread | None
    shifted: int
    flattest: np.ndarray

    @property
    def lag1(self) -> tuple[float, float]:
        """Autocorrelation at a distance of one pixel, (in x, in y)."""
        return lag_of(self.map, 1)

    @property
    def lag2(self) -> tuple[float, float]:
        """Autocorrelation at a distance of two pixels, (in x, in y)."""
        return lag_of(self.map, 2)

    @property
    def saturated(self) -> float:
        """Fraction of the values that are black or white."""
        return self.black + self.full

    @property
    def jpegs(self) -> int:
        """How many files are JPEGs."""
        return self.kinds.get("JPEG", 0)


def inspect_folder(
    folder: str | os.PathLike,
    second_dir: str | os.PathLike | None = None,
    limit: int | None = None,
    white: str | int = "auto",
) -> NoiseReport:
    """Measure the noise of the images of a folder. Files that cannot be measured are listed in the report.

    Args:
        folder: searched recursively.
        second_dir: folder with a second shot of each scene, under the same names. The noise curve, the level and the
            autocorrelation are then those of the differences: exact, and without the detail of the scenes.
        limit: measure at most so many files, spread evenly over the folder; None for all.
        white: as `TrainConfig.white`.

    Raises:
        UserError: there is no image that could be measured, or all are equal, or of one value.

    Example::

        report = inspect_folder("scans", limit=100)
        report.sigma.median, report.lag1  # 11.8, (0.02, 0.03)
    """
    if limit is not None and limit < 1:
        raise UserError(f"expected --limit of at least 1, got {limit}")
    pairs, skipped = _find(folder, second_dir)
    if limit is not None and limit < len(pairs):
        pairs = [pairs[index * len(pairs) // limit] for index in range(limit)]
    images, problems = _measure(pairs)
    skipped += problems
    if not images:
        first = f"; the first problem: {skipped[0]}" if skipped else f"; looked for {', '.join(IMAGE_SUFFIXES)}"
        what = "pairs of images" if second_dir else "images"
        raise UserError(f"expected {what} in {folder}, got none that can be measured{first}")
    unit = dataset_white(white, (image.depth for image in images), os.path.basename(os.path.realpath(folder)))
    images, too_bright = _within(images, unit)
    varied = [image for image in images if image.minimum < image.depth.maximum]
    if not varied:
        value = f", such as {images[0].minimum:g} in {images[0].path}" if images else f": {too_bright[0]}"
        raise UserError(f"expected images with noise in {folder}, got only images of one value{value}")
    different = list({image.pixels: image for image in reversed(varied)}.values())[::-1]
    if len(different) == 1 < len(varied):
        raise UserError(f"expected different images in {folder}, got {len(varied)} equal ones")
    usable = [image for image in different if math.isfinite(image.sigma) and image.correlation]
    if not usable:
        raise UserError(
            f"expected values between black and white in {folder}, got images that are black or white almost everywhere"
        )
    return _report(
        str(folder), second_dir, usable, unit, skipped + too_bright, len(images), len(varied), len(different)
    )


def _find(
    folder: str | os.PathLike, second_dir: str | os.PathLike | None
) -> tuple[Sequence[tuple[Path, Path | None]], list[str]]:
    """Return the files to measure, with their second shots, and `path: reason` of those that have none."""
    if second_dir is None:
        return [(path, None) for path in find_images(folder)], []
    if os.path.realpath(folder) == os.path.realpath(second_dir):
        raise UserError(f"expected two folders, got {folder} twice")
    found, unmatched = matched_pairs(str(folder), str(second_dir))
    return [(first, second) for second, first in found], unmatched


def _measure(pairs: Sequence[tuple[Path, Path | None]]) -> tuple[list[ImageNoise], list[str]]:
    """Measure files, with a progress bar. Return what was found and `path: reason` of the others."""
    images, problems = [], []
    with ThreadPoolExecutor(cores()) as pool:
        found = map_ahead(pool, lambda pair: measure_file(*pair), pairs, ahead=4 * cores())
        for result in ProgressBar("inspecting images", len(pairs), found):
            if isinstance(result, str):
                problems.append(result)
            else:
                images.append(result)
    return images, problems


def _within(images: Sequence[ImageNoise], white: White) -> tuple[list[ImageNoise], list[str]]:
    """Return the images whose values do not exceed a given white, and `path: reason` of the others."""
    kept, problems = [], []
    for image in images:
        if (limit := white.of(image.depth.dtype)) is not None and image.depth.maximum > limit:
            problems.append(f"{image.path}: values up to {image.depth.maximum}, above the white {limit}")
        else:
            kept.append(image)
    return kept, problems


def _report(
    folder: str,
    second_dir: str | os.PathLike | None,
    images: Sequence[ImageNoise],
    white: White,
    skipped: Sequence[str],
    usable: int,
    varied: int,
    different: int,
) -> NoiseReport:
    tops = [_white_of(image, white) for image in images]
    factors = [LEVELS / top for top in tops]
    correlations = [image.correlation for image in images if image.correlation]
    samples = [image.sample.scaled(factor) for image, factor in zip(images, factors)]
    pairs = [(image.pair, factor) for image, factor in zip(images, factors) if image.pair]
    if pairs:
        sigmas = [pair.sigma * factor for pair, factor in pairs]
        bins = [pair.bins.scaled(factor) for pair, factor in pairs]
        maps = [pair.map for pair, _ in pairs]
        curves = [curve_of_differences(one) for one in bins]
        curve = curve_of_differences(DifferenceBins(*(np.concatenate(column) for column in zip(*bins))))
    else:
        sigmas = [image.sigma * factor for image, factor in zip(images, factors)]
        maps = [correlation.map for correlation in correlations]
        curves = [curve_of_blocks(sample) for sample in samples]
        names = ("mean", "operator_variance", "structure")
        curve = curve_of_blocks(
            BlockSample(*(np.concatenate([getattr(sample, name) for sample in samples]) for name in names))
        )
    found = [one for one in curves if one]
    minimum, maximum = min(image.minimum for image in images), max(image.depth.maximum for image in images)
    deviations = [one.deviation * factor for one, factor in zip(correlations, factors)]
    middle = int(np.argsort(deviations, kind="stable")[len(deviations) // 2])
    return NoiseReport(
        folder,
        None if second_dir is None else str(second_dir),
        len(images),
        tuple(skipped),
        varied - different,
        usable - varied,
        any(image.shape[-1] > 1 for image in images),
        dict(Counter(image.kind for image in images).most_common()),
        tuple(sorted({image.depth.dtype for image in images})),
        white,
        minimum,
        maximum,
        _levels(images),
        _mean(image.ends[0] for image in images),
        _mean(image.ends[1] if image.depth.maximum >= top else 0.0 for image, top in zip(images, tops)),
        spread_of(sigmas),
        float(np.median(deviations)),
        float(np.median([one.growth for one in correlations])),
        np.median(maps, axis=0),
        curve,
        _spread(found, lambda one: one.gain),
        _spread(found, lambda one: one.read_noise),
        sum(bool(pair.shift) and max(map(abs, pair.shift or ())) > MIN_SHIFT for pair, _ in pairs),
        correlations[middle].flattest[:MAX_SHOWN] * factors[middle],
    )


def spread_of(values: Sequence[float]) -> Spread:
    """Return the quartiles and the median.

    Example:
        >>> spread_of([1.0, 2.0, 3.0])
        Spread(low=1.5, median=2.0, high=2.5)
    """
    return Spread(*map(float, np.quantile(values, (0.25, 0.5, 0.75))))


def _spread(curves: Sequence[NoiseCurve], value: Callable[[NoiseCurve], float]) -> Spread | None:
    return spread_of([value(curve) for curve in curves]) if curves else None


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def _white_of(image: ImageNoise, white: White) -> int:
    """Return the value of white in an image: 1 for floats."""
    own = {"uint8": 255, "uint16": 65535}.get(image.depth.dtype, 1)
    return white.of(image.depth.dtype) or own


def _levels(images: Sequence[ImageNoise]) -> int | None:
    """Return how many values there are between the smallest and the largest; None for floats."""
    if any(image.depth.dtype.startswith("float") for image in images):
        return None
    return max(int((image.depth.maximum - image.minimum) // image.step) + 1 for image in images)
