"""Draw a digit of the built-in data set and add noise: `python docs/examples/make_noisy_digit.py noisy_digit.png`."""

import sys

import numpy as np
from PIL import Image

from keras_dae import add_noise, render_digits


def noisy_digit() -> np.ndarray:
    """Return a digit with Gaussian noise of standard deviation 0.5, clipped: uint8 `(28, 28)`, white on black."""
    images, _ = render_digits(1, seed=1)
    clean = images[..., None].astype(np.float32) / 255
    noisy = add_noise(clean, "gaussian", 0.5, seed=(0, 0)).numpy()
    return np.rint(255 * noisy[0, :, :, 0]).astype(np.uint8)


if __name__ == "__main__":
    Image.fromarray(noisy_digit()).save(sys.argv[1])
