"""What a training learns from and is measured on, however it was come by: `DatasetSplits`, and how it is divided."""

import dataclasses
from dataclasses import dataclass

import numpy as np

from keras_dae.data.patches import PatchStream
from keras_dae.errors import UserError
from keras_dae.images.unit_range import to_unit
from keras_dae.networks.geometry import AUTOENCODER

MAX_PATCH = 64  # pixels; the largest patch size that is chosen by default
TEST_FRACTION = 0.1  # of a folder's images; MNIST has a test set of its own
MAX_HELD_OUT = 200  # images at most for testing, and for validation, out of a folder or of large arrays
MAX_HELD_OUT_PATCHES = 1000  # that these may give: they are kept in memory
SPLIT_SEED = 0  # the test images of a folder are the same whatever the training's seed


@dataclass(frozen=True)
class EvaluationImages:
    """Images, or patches of images, to measure on.

    Attributes:
        clean: uint8 in 0 … 255 or float32 in [0, 1], `(n, height, width, channels)`.
        noisy: likewise; None where noise is synthesized.
        image_index: for patches, the number of the image that each one is from, int `(n,)`; None for whole images.
    """

    clean: np.ndarray
    noisy: np.ndarray | None = None
    image_index: np.ndarray | None = None

    def __len__(self):
        return len(self.clean)

    def first(self, most):
        """Return so many of them, of patches such as are from as many images as can be."""
        if len(self) <= most:
            return self
        rows = np.arange(most) if self.image_index is None else np.linspace(0, len(self) - 1, most).astype(int)
        return EvaluationImages(
            *(None if values is None else values[rows] for values in (self.clean, self.noisy, self.image_index))
        )

    def count(self):
        """Return how many there are, `{"images"}`, and `{"patches"}` where they are that."""
        if self.image_index is None:
            return {"images": len(self)}
        return {"images": len(np.unique(self.image_index)), "patches": len(self)}


@dataclass(frozen=True)
class DatasetSplits:
    """What a run learns from and is measured on.

    Attributes:
        name: `mnist`, `digits`, …, or the name of the user's folder or file.
        sha256: of the content, whatever of it is used.
        train: an array `(n, height, width, channels)` used whole, or a `PatchStream`.
        validation, test: `EvaluationImages`.
        skipped: `path: reason` of every file that could not be used.
    """

    name: str
    sha256: str
    train: np.ndarray | PatchStream
    validation: EvaluationImages
    test: EvaluationImages
    skipped: tuple[str, ...] = ()


def fitting_patch(sides):
    """Return a patch size for images with these shorter sides: at most MAX_PATCH, and so that 19 in 20 fit."""
    most = int(np.quantile(sides, 0.05, method="lower")) if sides else MAX_PATCH
    multiple = AUTOENCODER.multiple
    return int(np.clip(most // multiple * multiple, AUTOENCODER.min_padded_size, MAX_PATCH))


def split(count, share, seed, most):
    """Return `(rest, held)`: sorted row numbers, drawn by seed; at least one each where count allows."""
    if count < 2:
        raise UserError(f"expected at least 2 images to hold one out for validation, got {count}")
    order = np.random.default_rng([seed, count]).permutation(count)
    held = min(most, count - 1, max(1, round(count * share)))
    return np.sort(order[held:]), np.sort(order[:held])


def held_out_patches(stream):
    """Return patches of a stream, cut at places that never change, as `EvaluationImages` in memory."""
    share = max(1, MAX_HELD_OUT_PATCHES // len(stream.patches))
    stream = dataclasses.replace(stream, patches=tuple(min(count, share) for count in stream.patches))
    cuts = [stream.cut(index, np.random.default_rng(index)) for index in range(len(stream.patches))]
    patches = [patch for cut in cuts for patch in cut]
    images = [list(kind) for kind in zip(*patches)]
    if len({image.dtype for kind in images for image in kind}) > 1:  # a folder of both 8-bit and deeper images
        images = [[to_unit(image) for image in kind] for kind in images]
    image_index = np.repeat(np.arange(len(cuts)), [len(cut) for cut in cuts])
    return EvaluationImages(*(np.stack(kind) for kind in images), image_index=image_index)
