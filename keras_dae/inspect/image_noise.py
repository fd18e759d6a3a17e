"""The noise of one image file, or of a file and a second shot of the same scene."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_dae.data.file_checks import pixel_hash
from keras_dae.data.white import Depth
from keras_dae.errors import first_line
from keras_dae.images.read import StoredImage, read_stored
from keras_dae.inspect.blocks import BLOCK, MAX_SATURATED, MIN_SIDE, Blocks, blocks_of
from keras_dae.inspect.correlation import Autocorrelation, autocorrelation, correlation_map, without_planes
from keras_dae.inspect.curve import BlockSample, DifferenceBins, difference_bins
from keras_dae.inspect.level import noise_level
from keras_dae.inspect.shift import shift_between

MAX_SAMPLED_BLOCKS = 1024  # of an image, for the curve
MAX_SHIFT = 1.25  # pixels, between two shots: one, and the error of the measurement
MAX_DIFFERENCE_PIXELS = 2**20


@dataclass(frozen=True)
class PairNoise:
    """What two shots of one scene tell, in the units of the pixels.

    Attributes:
        sigma: standard deviation of the noise of one shot.
        bins: the differences by brightness.
        map: autocorrelation of the differences, see `Autocorrelation.map`.
        shift: (down, right) in pixels; None if it could not be measured.
    """

    sigma: float
    bins: DifferenceBins
    map: np.ndarray
    shift: tuple[float, float] | None


@dataclass(frozen=True)
class ImageNoise:
    """The noise of one file, in the units of its pixels.

    Attributes:
        path: the file.
        kind: its format, a name in `keras_dae.images.kinds.FORMATS`.
        shape: height, width and channels. A colour image whose channels are equal has one.
        pixels: hash of the image, see `pixel_hash`.
        depth: what it uses of the range of its type.
        minimum: the smallest value.
        step: 2ⁿ if all values are multiples of that and of no larger power, as for 12 bits that are stored in the upper
            bits of 16; 1 for floats.
        ends: how many values are 0, and how many are equal to the largest value of the image, as fractions.
        sigma: see `noise_level`.
        correlation: see `autocorrelation`.
        sample: for the noise curve.
        pair: if there is a second shot.
    """

    path: Path
    kind: str
    shape: tuple[int, int, int]
    pixels: str
    depth: Depth
    minimum: float
    step: int
    ends: tuple[float, float]
    sigma: float
    correlation: Autocorrelation | None
    sample: BlockSample
    pair: PairNoise | None = None


def measure_file(path: Path, second: Path | None = None) -> ImageNoise | str:
    """Measure a file, or a file and a second shot. Return `path: reason` if that is not possible."""
    try:
        stored = read_stored(path)
        image = _without_equal_channels(stored.pixels)
    except Exception as error:  # noqa: BLE001 - decoders raise any exception; it is reported with the file's name
        return f"{path}: not a readable image ({first_line(error)})"
    height, width, _ = image.shape
    if min(height, width) < MIN_SIDE:
        return f"{path}: {height}×{width} pixels, smaller than {MIN_SIDE}×{MIN_SIDE}"
    blocks = blocks_of(image)
    pair = None
    if second is not None:
        try:
            other = read_stored(second).pixels
        except Exception as error:  # noqa: BLE001 - as above
            return f"{second}: not a readable image ({first_line(error)})"
        found = measure_pair(stored.pixels, other)
        if isinstance(found, str):
            return f"{path}, {second}: {found}"
        pair = found
    return _image_noise(path, stored, image, blocks, pair)


def _image_noise(
    path: Path, stored: StoredImage, image: np.ndarray, blocks: Blocks, pair: PairNoise | None
) -> ImageNoise:
    minimum, maximum = image.min(), image.max()
    return ImageNoise(
        path,
        stored.kind,
        (image.shape[0], image.shape[1], image.shape[2]),
        pixel_hash(stored.pixels),
        Depth(image.dtype.name, maximum.item(), stored.white),
        float(minimum),
        _step(image),
        (1 - np.count_nonzero(image) / image.size, np.count_nonzero(image == maximum) / image.size),
        noise_level(blocks),
        autocorrelation(blocks),
        _sample(blocks),
        pair,
    )


def measure_pair(first: np.ndarray, second: np.ndarray) -> PairNoise | str:
    """Measure two shots of one scene, `(height, width, channels)`. Return the reason if they do not fit together."""
    if first.shape != second.shape or first.dtype != second.dtype:
        sizes = [f"{image.shape[0]}×{image.shape[1]}×{image.shape[2]} {image.dtype}" for image in (first, second)]
        return f"expected two shots of one size and type, got {sizes[0]} and {sizes[1]}"
    if np.array_equal(first, second):
        return "expected two different shots of one scene, got equal images"
    shift = shift_between(*(image.mean(-1, dtype=np.float32) for image in (first, second)))
    if shift and max(map(abs, shift)) > MAX_SHIFT:
        down, right = shift
        return f"expected two shots without a shift, got one of {abs(right):.1f} pixels across and {abs(down):.1f} down"
    rows = max(1, first.size // MAX_DIFFERENCE_PIXELS)
    height = len(first) // BLOCK * BLOCK
    bands = np.arange(height).reshape(-1, BLOCK)[::rows].ravel()  # whole rows of blocks
    first, second = (image[bands].astype(np.float32) for image in (first, second))
    differences = first - second
    differences -= differences.mean()
    sigma = float(np.sqrt(np.mean(np.square(differences, dtype=np.float64)) / 2))
    if sigma <= 1e-6 * max(float(first.max()), float(second.max())):
        return "expected two different shots of one scene, got images that are equal but for their brightness"
    return PairNoise(sigma, difference_bins(first, second), _correlation_of(differences), shift)


def _correlation_of(differences: np.ndarray) -> np.ndarray:
    """Return the autocorrelation map of the differences `(height, width, channels)` of two shots."""
    height, width = (side // BLOCK * BLOCK for side in differences.shape[:2])
    cut = differences[:height, :width].reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK, -1)
    return correlation_map(without_planes(cut.transpose(0, 2, 4, 1, 3).reshape(-1, BLOCK, BLOCK)))


def _sample(blocks: Blocks) -> BlockSample:
    usable = np.flatnonzero(blocks.saturated <= MAX_SATURATED)
    usable = usable[:: max(1, -(-len(usable) // MAX_SAMPLED_BLOCKS))]
    return BlockSample(blocks.mean[usable], blocks.operator_variance[usable], blocks.structure[usable])


def _step(image: np.ndarray) -> int:
    """Return the largest power of two that divides all values."""
    if image.dtype.kind != "u":
        return 1
    bits = int(np.bitwise_or.reduce(image, axis=None))
    return bits & -bits or 1


def _without_equal_channels(image: np.ndarray) -> np.ndarray:
    """Return one channel of a grey image that is stored as colour."""
    if image.shape[-1] == 1:
        return image
    first = image[::8, ::8]
    if (first == first[..., :1]).all() and (image == image[..., :1]).all():
        return np.ascontiguousarray(image[..., :1])
    return image
