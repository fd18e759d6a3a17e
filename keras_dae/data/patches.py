"""Random patches of images of any size, a batch at a time, so that memory does not grow with the images."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from keras_dae._util.threads import map_ahead
from keras_dae.images.unit_range import to_unit

READERS = 2  # threads that decode images
MIXED = 2048  # patches held back, out of which each batch is drawn


@dataclass(frozen=True)
class PatchStream:
    """Images that are cut into square patches.

    Attributes:
        read: int -> tuple of images `(height, width, channels)`, uint8 or float32 in [0, 1]: the clean one, and
            the noisy one where real pairs are given.
        patches: how many patches an epoch takes from each image.
        patch_size: pixels, a multiple of 4.
    """

    read: Callable[[int], tuple]
    patches: tuple[int, ...]
    patch_size: int

    def __len__(self):
        return sum(self.patches)

    def share(self, worker, workers):
        """Return the stream of every `workers`-th image from number `worker` on."""
        if workers == 1:
            return self
        return PatchStream(
            lambda index: self.read(index * workers + worker), self.patches[worker::workers], self.patch_size
        )

    def batches(self, batch_size, seed, epoch):
        """Yield batches `(clean,)` or `(clean, noisy)`, each float32 `(batch_size, patch_size, patch_size, channels)`.

        Order and places follow from `(seed, epoch)` alone. What is left over after whole batches is dropped.
        """
        random = np.random.default_rng([seed, epoch, 1])
        pool, ready = [], []
        for patch in self._patches(random.permutation(len(self.patches)), seed, epoch):
            if len(pool) < MIXED:
                pool.append(patch)
                continue
            chosen = random.integers(MIXED)
            ready.append(pool[chosen])
            pool[chosen] = patch
            if len(ready) == batch_size:
                yield stack(ready)
                ready = []
        ready += [pool[index] for index in random.permutation(len(pool))]
        for start in range(0, len(ready) - batch_size + 1, batch_size):
            yield stack(ready[start : start + batch_size])

    def _patches(self, order, seed, epoch):
        def cut(index):
            return self.cut(index, np.random.default_rng([seed, epoch, 2, index]))

        with ThreadPoolExecutor(READERS) as readers:
            for patches in map_ahead(readers, cut, map(int, order), 2 * READERS):
                yield from patches

    def cut(self, index, random):
        """Return the image's random patches: a list of tuples `(clean,)` or `(clean, noisy)`."""
        images = self.read(index)
        height, width = images[0].shape[:2]
        size = self.patch_size
        patches = []
        for _ in range(self.patches[index]):
            top, left = random.integers(height - size + 1), random.integers(width - size + 1)
            patches.append(tuple(image[top : top + size, left : left + size].copy() for image in images))
        return patches


def stack(patches):
    """Return patches, each a tuple of images, as a tuple of float32 batches in [0, 1]."""
    return tuple(np.stack([to_unit(image) for image in images]) for images in zip(*patches))


def patches_in(height, width, patch_size, most):
    """Return how many patches an image gives in an epoch: as many as fit side by side, at most `most`."""
    return min(most, (height // patch_size) * (width // patch_size))
