"""Random patches of images of any size, one batch at a time, so that memory use does not grow with the images."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from keras_dae._util.threads import map_ahead
from keras_dae.data.resized import resized
from keras_dae.images.unit_range import to_unit

READER_THREADS = 2  # threads that decode images
SHUFFLE_BUFFER = 2048  # patches kept in memory, from which each batch is drawn

Images = tuple[np.ndarray, ...]  # (clean,), or (clean, noisy) for real pairs


@dataclass(frozen=True)
class PatchStream:
    """Images that are read when they are needed, and cut into square patches.

    Attributes:
        read: returns the image of a number, as `(clean,)`, or `(clean, noisy)` for real pairs. Each is
            `(height, width, channels)`, uint8 in 0 … 255 or float32 in [0, 1].
        patch_counts: number of patches that an epoch takes from each image.
        patch_size: pixels; a size that the network takes, see `keras_dae.networks.geometry`.
        scales: factors, of which `cut` draws one for an image before it cuts patches. Factors that would make the image
            smaller than a patch are left out.
    """

    read: Callable[[int], Images]
    patch_counts: tuple[int, ...]
    patch_size: int
    scales: tuple[float, ...] = (1.0,)

    def __len__(self) -> int:
        """Return the number of patches in an epoch."""
        return sum(self.patch_counts)

    def shard(self, worker: int, workers: int) -> "PatchStream":
        """Return the stream of one worker's images: number `worker`, and every `workers`-th one after it."""
        if workers == 1:
            return self
        return dataclasses.replace(
            self,
            read=lambda index: self.read(index * workers + worker),
            patch_counts=self.patch_counts[worker::workers],
        )

    def batches(self, batch_size: int, seed: int, epoch: int) -> Iterator[Images]:
        """Yield batches `(clean,)` or `(clean, noisy)`.

        Each is float32 `(batch_size, patch_size, patch_size, channels)` in [0, 1]. The order and the places of the
        patches follow from `(seed, epoch)` alone. Patches that do not fill a last batch are dropped.
        """
        random = np.random.default_rng([seed, epoch, 1])
        buffer: list[tuple] = []
        drawn: list[tuple] = []
        for patch in self._patches(random.permutation(len(self.patch_counts)), seed, epoch):
            if len(buffer) < SHUFFLE_BUFFER:
                buffer.append(patch)
                continue
            chosen = random.integers(SHUFFLE_BUFFER)
            drawn.append(buffer[chosen])
            buffer[chosen] = patch
            if len(drawn) == batch_size:
                yield stack_patches(drawn)
                drawn = []
        drawn += [buffer[index] for index in random.permutation(len(buffer))]
        for start in range(0, len(drawn) - batch_size + 1, batch_size):
            yield stack_patches(drawn[start : start + batch_size])

    def _patches(self, order: Iterable[int], seed: int, epoch: int) -> Iterator[Images]:
        def cut(index):
            return self.cut(index, np.random.default_rng([seed, epoch, 2, index]))

        with ThreadPoolExecutor(READER_THREADS) as readers:
            for patches in map_ahead(readers, cut, map(int, order), 2 * READER_THREADS):
                yield from patches

    def cut(self, index: int, random: np.random.Generator) -> list[Images]:
        """Return random patches of image number `index`, each `(clean,)` or `(clean, noisy)` from the same place."""
        images = self.read(index)
        size = self.patch_size
        if self.scales != (1.0,):
            fitting = [scale for scale in self.scales if round(min(images[0].shape[:2]) * scale) >= size]
            scale = random.choice(fitting or [1.0])
            images = tuple(resized(image, scale) for image in images) if scale != 1 else images
        height, width = images[0].shape[:2]
        patches = []
        for _ in range(self.patch_counts[index]):
            top, left = random.integers(height - size + 1), random.integers(width - size + 1)
            patches.append(tuple(image[top : top + size, left : left + size].copy() for image in images))
        return patches


def stack_patches(patches: Sequence[Images]) -> Images:
    """Return patches as one batch: `(clean,)` or `(clean, noisy)`, each float32 in [0, 1] with a new first axis."""
    return tuple(np.stack([to_unit(image) for image in images]) for images in zip(*patches))


def count_patches(height: int, width: int, patch_size: int, maximum: int) -> int:
    """Return how many patches an epoch takes from an image: as many as fit side by side, and at most `maximum`.

    Example:
        >>> count_patches(128, 200, patch_size=64, maximum=16)
        6
    """
    return min(maximum, (height // patch_size) * (width // patch_size))
