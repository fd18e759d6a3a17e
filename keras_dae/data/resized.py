"""Images reduced or enlarged, for training."""

import numpy as np
from PIL import Image


def resized(image: np.ndarray, scale: float) -> np.ndarray:
    """Return an image resized by a factor, with Pillow's bicubic filter, which averages over what it leaves out.

    Args:
        image: `(height, width, channels)`, uint8, or float32 in [0, 1].
        scale: greater than 0; below 1 the image becomes smaller, and above 1 larger and softer.
    """
    height, width, channels = image.shape
    size = max(1, round(width * scale)), max(1, round(height * scale))
    planes = [
        np.asarray(Image.fromarray(np.ascontiguousarray(image[..., channel])).resize(size, Image.Resampling.BICUBIC))
        for channel in range(channels)
    ]
    stacked = np.stack(planes, axis=-1)
    return stacked if image.dtype == np.uint8 else stacked.clip(0, 1)  # the filter overshoots at edges
