"""Make the photograph of the web page: `python docs/examples/make_noisy_photograph.py CLEAN noisy_photograph.jpg`.

CLEAN is an osprey of 720×480 pixels. It is backgrounds/perched-osprey.jpg of
github.com/BuddiesOfBudgie/budgie-backgrounds at commit 3f59a1ee6b34f61c9ca9a6b260889a9ebe1163bc, made 4.5 times smaller
and cut at its sides. Its licence is CC0 1.0; its author is not named there. export/web/static/photograph.jpg is a copy
of the result.
"""

import sys

import numpy as np
from PIL import Image

from keras_dae import add_noise

SIGMA = 27 / 255  # at white; over the whole photograph, the standard deviation of the noise is 20 of 255
QUALITY = 90  # of the JPEG file


def noisy_photograph(path: str) -> np.ndarray:
    """Return the photograph in a file with noise that depends on the brightness: uint8 `(height, width, 3)`."""
    with Image.open(path) as image:
        clean = np.asarray(image.convert("RGB"), np.float32)[None] / 255
    noisy = add_noise(clean, "poisson_gaussian", SIGMA, seed=(0, 0)).numpy()[0]
    return np.rint(255 * noisy.clip(0, 1)).astype(np.uint8)


if __name__ == "__main__":
    Image.fromarray(noisy_photograph(sys.argv[1])).save(sys.argv[2], quality=QUALITY)
