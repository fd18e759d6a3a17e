"""Which arrays are images: checked, and brought into one form."""

import numpy as np

from keras_dae.errors import UserError
from keras_dae.images.unit_range import check_type, without_rounding

# The least width of the images in a stack (count, height, width). In an array with a shorter last axis, that axis may
# hold the bands of one image.
MIN_STACK_WIDTH = 17


def as_batch(image: np.ndarray) -> np.ndarray:
    """Return an image or images that `check_image` accepts as `(n, height, width, channels)`.

    Example:
        >>> [as_batch(np.empty(shape)).shape for shape in [(28, 20), (28, 20, 3), (5, 28, 20)]]
        [(1, 28, 20, 1), (1, 28, 20, 3), (5, 28, 20, 1)]
    """
    if image.ndim == 4:
        return image
    return image[..., None] if is_stack(image) else image.reshape(1, *image.shape[:2], -1)


def is_stack(image: np.ndarray) -> bool:
    """Return whether an array is a stack of grey images `(count, height, width)`, not an image with channels."""
    return image.ndim == 3 and image.shape[-1] >= MIN_STACK_WIDTH


def check_image(image: np.ndarray, clip: bool = True) -> None:
    """Raise `UserError` unless a `Denoiser` takes this array, see `Denoiser.__call__`.

    Args:
        image: array of any shape and type.
        clip: whether floats must be in [0, 1]. Otherwise, they must be finite.
    """
    is_image = image.ndim in (2, 3, 4) and (image.ndim == 2 or image.shape[-1] in (1, 2, 3, 4) or is_stack(image))
    if not is_image or not image.size:
        advice = "; for a stack of grey images, give (count, height, width, 1)" if image.ndim == 3 else ""
        raise UserError(
            "expected an image (height, width), (height, width, 1 to 4) or (batch, height, width, 1 to 4), "
            f"got an array of shape {image.shape}{advice}"
        )
    try:
        check_type(image.dtype)
        if image.dtype.kind == "f" and clip:
            without_rounding(image)
        elif image.dtype.kind == "f" and not np.isfinite(image).all():
            raise ValueError("expected finite values, got NaN or infinity")
    except ValueError as error:
        raise UserError(str(error)) from None


def colours(image: np.ndarray) -> np.ndarray:
    """Return an image without its alpha channel, which is the last of 2 or 4."""
    return image[..., :-1] if image.ndim > 2 and image.shape[-1] in (2, 4) else image
