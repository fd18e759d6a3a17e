"""Answers requests for a run as TensorFlow Serving answers them for its SavedModel, but with onnxruntime."""

import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from export.artefacts import newest_version
from keras_dae._util.archives import UNREADABLE
from keras_dae.denoise.denoiser import load_denoiser

MAX_BYTES = 64 * 2**20  # in a request
MAX_PIXELS = 2**24  # in all images of a request together; one core takes about three seconds for them
GREY_WEIGHTS = np.array([9797, 19234, 3737], np.uint32)  # red, green, blue, in units of 2⁻¹⁵, as in libpng
# Name -> its input and its output.
SIGNATURES = {"serving_default": ("noisy", "denoised"), "denoise_image": ("image_bytes", "denoised_bytes")}


class Refused(Exception):
    """A request that cannot be answered. `code` is the name of the gRPC status code."""

    def __init__(self, code: str, message: str):
        super().__init__(message)
        self.code = code


class Servable:
    """The model of a run folder, under a name and a version.

    Attributes:
        name: of the model, in requests.
        version: number of the newest SavedModel of the run; 1 if it has none.
        channels: 1 or 3, of the images that `serving_default` takes.
    """

    def __init__(self, run: str | os.PathLike, name: str):
        """Load model.onnx of the folder `run`, for one thread. Raises `UserError` if it cannot be loaded."""
        self.denoiser = load_denoiser(run, threads=1)
        self.channels = self.denoiser.channels
        self.name = name
        self.version = newest_version(Path(run, "saved_model")) or 1

    def check(self, name: str, version: int | None = None) -> None:
        """Raise `Refused` unless this is the model that a request asks for. `version` None accepts any version."""
        if name != self.name or version not in (None, self.version):
            wanted = "Latest" if version is None else "Specific"
            label = name if version is None else f"{name}, {version}"
            raise Refused("NOT_FOUND", f"Servable not found for request: {wanted}({label})")

    def images(self, signature: str, value: np.ndarray | list[bytes]) -> list[np.ndarray]:
        """Return the images in the input of a signature.

        Args:
            signature: its name.
            value: for `serving_default`, an array of numbers `(batch, height, width, channels)`; for `denoise_image`,
                a list of the contents of PNG or JPEG files.

        Returns:
            Arrays `(height, width, channels)`: float32 for `serving_default`, uint8 for `denoise_image`.

        Raises:
            Refused: `value` has another shape or type, holds numbers that are not finite, no image or an image that
                cannot be read, or too many pixels.
        """
        return self._floats(value) if signature == "serving_default" else self._files(value)

    def denoise(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Denoise images of any sizes, in their order. Images of the same shape and dtype are one batch.

        Args:
            images: uint8, or float32 in [0, 1], each `(height, width, channels)`. The results have the same types.
        """
        denoised: dict[int, np.ndarray] = {}
        alike: dict[tuple, list[int]] = {}
        for index, image in enumerate(images):
            alike.setdefault((image.shape, image.dtype), []).append(index)
        for indices in alike.values():
            batch = self.denoiser.denoise_batch(np.stack([images[index] for index in indices]))
            for index, image in zip(indices, batch):
                denoised[index] = image
        return [denoised[index] for index in range(len(images))]

    def output(self, signature: str, denoised: list[np.ndarray]) -> np.ndarray | list[bytes]:
        """Return the output of a signature for denoised images.

        It is an array `(batch, height, width, channels)` for `serving_default`, and a list of the contents of PNG files
        for `denoise_image`.

        Raises:
            Refused: a pixel is not finite.
        """
        if signature == "serving_default":
            output = np.stack(denoised)
            if not np.isfinite(output).all():
                raise Refused("INVALID_ARGUMENT", "expected noisy of a size that the network can work on")
            return output
        return [_png(image) for image in denoised]

    def _floats(self, value):
        shape = value.shape
        if len(shape) != 4 or shape[-1] != self.channels or not all(shape):
            raise Refused("INVALID_ARGUMENT", f"expected noisy [batch,height,width,{self.channels}], got {list(shape)}")
        _check_pixels(np.prod(shape[:-1], dtype=object))
        with np.errstate(over="ignore"):
            noisy = np.asarray(value, np.float32)
        if not np.isfinite(noisy).all():
            raise Refused("INVALID_ARGUMENT", "expected noisy to be finite float32 numbers")
        return list(noisy)

    def _files(self, contents):
        if not contents:
            raise Refused("INVALID_ARGUMENT", "expected image_bytes of at least one image")
        images, pixels = [], 0
        for content in contents:
            images.append(_read(content, self.channels, MAX_PIXELS - pixels))
            pixels += images[-1][..., 0].size
        return images


def _read(content: bytes, channels: int, max_pixels: int) -> np.ndarray:
    """Return a PNG or JPEG as uint8 `(height, width, channels)`, with the pixels that tf.io.decode_image gives.

    That function ignores the orientation in the metadata, and drops the alpha channel.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content), formats=("PNG", "JPEG")) as image:
            _check_pixels(image.width * image.height, max_pixels)
            if image.format != "PNG":
                return _read_jpeg(content, channels)
            is_deep = image.mode.startswith("I")
            eight_bits = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)) if is_deep else image
            if channels == 3:
                return np.asarray(eight_bits.convert("RGB"))
            if eight_bits.mode in ("1", "L", "LA"):
                return np.asarray(eight_bits.convert("L"))[..., None]
            colours = np.asarray(eight_bits.convert("RGB"), np.uint32)
            return (colours @ GREY_WEIGHTS >> 15).astype(np.uint8)[..., None]
    except Image.DecompressionBombError:
        raise Refused("RESOURCE_EXHAUSTED", f"expected at most {MAX_PIXELS:,} pixels, got far more") from None
    except UNREADABLE:
        raise Refused(
            "INVALID_ARGUMENT", "expected image_bytes to hold PNG or JPEG files, got something else"
        ) from None


def _read_jpeg(content, channels):
    """Read a JPEG with TensorFlow. Other decoders differ by up to two levels of 255, and denoising amplifies that."""
    import tensorflow as tf

    try:
        return tf.io.decode_jpeg(content, channels).numpy()
    except tf.errors.InvalidArgumentError:
        raise ValueError("TensorFlow cannot read this JPEG file") from None


def _check_pixels(count, max_pixels=MAX_PIXELS):
    if count > max_pixels:
        raise Refused("RESOURCE_EXHAUSTED", f"expected at most {MAX_PIXELS:,} pixels in a request, got more")


def _png(image):
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, "PNG")
    return file.getvalue()
