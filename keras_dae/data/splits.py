"""`DatasetSplits`: the training, validation and test images of a run, and how images are divided into the three."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from keras_dae.config import min_patch_size
from keras_dae.data.patches import PatchStream
from keras_dae.errors import UserError
from keras_dae.images.unit_range import to_unit
from keras_dae.networks.geometry import Grid

MAX_PATCH_SIZE = 64  # pixels; the largest default patch size
TEST_FRACTION = 0.1  # of the images where the dataset has no test images
MAX_HELD_OUT = 200  # validation images, and test images, of data sets that are cut into patches
MAX_HELD_OUT_PATCHES = 1000  # cut from the validation images, and from the test images; they are kept in memory
SPLIT_SEED = 0  # seed of the split into training and test images; does not depend on the training seed


@dataclass(frozen=True)
class EvaluationImages:
    """Images, or patches of images, to measure on.

    Attributes:
        clean: `(n, height, width, channels)`, uint8 in 0 … 255 or float32 in [0, 1].
        noisy: real noisy images in the same form; None if noise is synthesized.
        image_index: for patches, the number of the image that each patch was cut from, int `(n,)`; None for whole
            images.
    """

    clean: np.ndarray
    noisy: np.ndarray | None = None
    image_index: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.clean)

    @property
    def image_count(self) -> int:
        """The number of images; all patches of an image count as one."""
        return len(self) if self.image_index is None else len(np.unique(self.image_index))

    @property
    def patch_count(self) -> int | None:
        """The number of patches; None for whole images."""
        return None if self.image_index is None else len(self)

    def first(self, count: int) -> "EvaluationImages":
        """Return at most `count` of them: the first whole images, or patches from as many images as possible."""
        if len(self) <= count:
            return self
        rows = np.arange(count) if self.image_index is None else np.linspace(0, len(self) - 1, count).astype(int)
        return EvaluationImages(
            self.clean[rows],
            None if self.noisy is None else self.noisy[rows],
            None if self.image_index is None else self.image_index[rows],
        )


class ImageRecord(NamedTuple):
    """Which image is in which split. For images in arrays, the name is the row, and there is no hash of a file.

    Attributes:
        split: `train`, `validation`, `test` or `unused`.
        name: path of the clean image within its folder.
        sha256: of the clean image's file.
        pixels: hash of the clean image, see `keras_dae.data.file_checks.pixel_hash`.
        noisy_name: the same of the noisy image of a real pair; empty for others.
        noisy_sha256: likewise.
        noisy_pixels: likewise.
    """

    split: str
    name: str
    sha256: str
    pixels: str
    noisy_name: str = ""
    noisy_sha256: str = ""
    noisy_pixels: str = ""

    @property
    def hashes(self) -> set[str]:
        """All hashes. Images that have one in common are equal."""
        return {self.sha256, self.pixels, self.noisy_sha256, self.noisy_pixels} - {""}


@dataclass(frozen=True)
class DatasetSplits:
    """The images that a run learns from and is measured on.

    Attributes:
        name: `mnist`, `digits`, …, or the name of the user's folder or file.
        sha256: hash of all images of the dataset, including those that are not used. It is made of the hashes of
            files for a folder, and of the pixels for arrays.
        train: an array `(n, height, width, channels)` of whole images, uint8 in 0 … 255 or float32 in [0, 1], or a
            `PatchStream`.
        validation: images to measure on after each epoch.
        test: images to measure the finished model on.
        skipped: `path: reason` of every file that could not be used.
        white: the integer that became 1 in 16-bit images; None if there are none.
        list_images: returns which image is in which split.
    """

    name: str
    sha256: str
    train: np.ndarray | PatchStream
    validation: EvaluationImages
    test: EvaluationImages
    skipped: tuple[str, ...] = ()
    white: int | None = None
    list_images: Callable[[], list[ImageRecord]] = list

    @property
    def train_image_count(self) -> int:
        """The number of training images; all patches of an image count as one."""
        return len(self.train.patch_counts) if isinstance(self.train, PatchStream) else len(self.train)


def default_patch_size(shorter_sides: Sequence[int], grid: Grid) -> int:
    """Return the patch size, in pixels, for images whose shorter sides are these.

    It is the largest size of the network's grid that is at most MAX_PATCH_SIZE and that fits into 19 of 20 images.
    """
    fits = int(np.quantile(shorter_sides, 0.05, method="lower")) if shorter_sides else MAX_PATCH_SIZE
    return int(np.clip(fits // grid.multiple * grid.multiple, min_patch_size(grid), MAX_PATCH_SIZE))


def held_out_split(
    count: int, fraction: float, seed: int, max_held_out: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Divide `count` images at random; return the sorted row numbers `(kept, held_out)`, each with at least one.

    Args:
        count: number of images.
        fraction: held-out fraction, in (0, 1).
        seed: the same seed and count give the same rows.
        max_held_out: maximum number of rows to hold out; None for no limit.

    Raises:
        UserError: `count` is less than 2.

    Example:
        >>> [rows.tolist() for rows in held_out_split(5, fraction=0.4, seed=0)]
        [[1, 2, 4], [0, 3]]
    """
    if count < 2:
        raise UserError(f"expected at least 2 images to hold one out for validation, got {count}")
    order = np.random.default_rng([seed, count]).permutation(count)
    held_out = min(max_held_out or count, count - 1, max(1, round(count * fraction)))
    return np.sort(order[held_out:]), np.sort(order[:held_out])


def held_out_patches(stream: PatchStream) -> EvaluationImages:
    """Return patches of the stream's images, in memory. The same images always give the same patches."""
    per_image = max(1, MAX_HELD_OUT_PATCHES // len(stream.patch_counts))
    stream = dataclasses.replace(stream, patch_counts=tuple(min(count, per_image) for count in stream.patch_counts))
    # One list of patches per image. A patch is a tuple: (clean,) or (clean, noisy).
    cuts = [stream.cut(index, np.random.default_rng(index)) for index in range(len(stream.patch_counts))]
    image_index = np.repeat(np.arange(len(cuts)), [len(patches) for patches in cuts])
    clean, *noisy = map(list, zip(*(patch for patches in cuts for patch in patches)))
    if len({image.dtype for images in (clean, *noisy) for image in images}) > 1:  # 8-bit files among deeper ones
        clean, *noisy = [[to_unit(image) for image in images] for images in (clean, *noisy)]
    return EvaluationImages(np.stack(clean), np.stack(noisy[0]) if noisy else None, image_index)
