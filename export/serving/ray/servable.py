"""Answers requests for a run as TensorFlow Serving answers them for its SavedModel, but with onnxruntime.

Image files are denoised by the code of the command line, so the answer has the bytes that
`python -m keras_dae.denoise` writes.
"""

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from export.artefacts import newest_version
from keras_dae._util.archives import UNREADABLE
from keras_dae.denoise.batching import Failed, denoise_contents
from keras_dae.denoise.denoiser import load_denoiser

MAX_BYTES = 64 * 2**20  # in a request
MAX_PIXELS = 2**24  # in all images of a request; one core takes about 3 seconds for them with autoencoder, 10 with unet
LABELS = {"stable": 1, "canary": 2}  # label -> version, as in ../tf_serving/models.config
# Name -> its input and its output.
SIGNATURES = {"serving_default": ("noisy", "denoised"), "denoise_image": ("image_bytes", "denoised_bytes")}

Item = np.ndarray | bytes  # float32 (height, width, channels), or the content of an image file


class Refused(Exception):
    """A request that cannot be answered. `code` is the name of the gRPC status code."""

    def __init__(self, code: str, message: str):
        super().__init__(message)
        self.code = code


class Asked(NamedTuple):
    """The model that a request is for.

    Attributes:
        name: of the model.
        version: its number; None for any.
        label: of its version; None for any.
    """

    name: str
    version: int | None = None
    label: str | None = None


class Images(NamedTuple):
    """The images of a request.

    Attributes:
        items: arrays for `serving_default`, contents of files for `denoise_image`.
        pixels: in all images together.
    """

    items: list[Item]
    pixels: int


class Servable:
    """The model of a run folder, under a name and a version.

    Attributes:
        name: of the model, in requests.
        version: number of the newest SavedModel of the run; 1 if it has none.
        labels: label -> version that requests may ask for.
        channels: 1 or 3, of the images that `serving_default` takes.
    """

    def __init__(self, run: str | os.PathLike, name: str, labels: Mapping[str, int] = LABELS):
        """Load model.onnx of the folder `run`, for one thread. Raises `UserError` if it cannot be loaded."""
        self.denoiser = load_denoiser(run, threads=1)
        self.channels = self.denoiser.channels
        self.name = name
        self.version = newest_version(Path(run, "saved_model")) or 1
        self.labels = dict(labels)

    def check(self, asked: Asked) -> None:
        """Raise `Refused` unless this is the model that a request asks for."""
        if asked.label is not None and asked.name == self.name and asked.label not in self.labels:
            raise Refused("NOT_FOUND", f"Unrecognized servable version label: {asked.label}")
        version = asked.version if asked.label is None else self.labels.get(asked.label)
        if asked.name != self.name or version not in (None, self.version):
            wanted = f"Latest({asked.name})" if version is None else f"Specific({asked.name}, {version})"
            raise Refused("NOT_FOUND", f"Servable not found for request: {wanted}")

    def images(self, signature: str, value: np.ndarray | list[bytes]) -> Images:
        """Return the images in the input of a signature.

        Args:
            signature: its name.
            value: for `serving_default`, an array of numbers `(batch, height, width, channels)`; for `denoise_image`,
                a list of the contents of PNG or JPEG files.

        Raises:
            Refused: `value` has another shape or type, holds numbers that are not finite, no image or a file that is
                no PNG or JPEG, or too many pixels.
        """
        return self._floats(value) if signature == "serving_default" else _files(value)

    def denoise(self, items: Sequence[Item]) -> list[Item | Failed]:
        """Denoise images of any sizes, in their order. Images of the same shape are one batch.

        Args:
            items: float32 `(height, width, channels)` in [0, 1], or the contents of PNG or JPEG files.

        Returns:
            The same for each image. `Failed` stands for a file that cannot be read.
        """
        files = [index for index, item in enumerate(items) if isinstance(item, bytes)]
        denoised: dict[int, Item | Failed] = {}
        for index, file in zip(files, denoise_contents(self.denoiser, [items[index] for index in files])):  # type: ignore[misc]
            denoised[index] = file if isinstance(file, Failed) else file.content
        alike: dict[tuple, list[int]] = {}
        for index, item in enumerate(items):
            if isinstance(item, np.ndarray):
                alike.setdefault(item.shape, []).append(index)
        for indices in alike.values():
            batch = self.denoiser.denoise_batch(np.stack([items[index] for index in indices]))
            denoised |= zip(indices, batch)
        return [denoised[index] for index in range(len(items))]

    def output(self, signature: str, denoised: Sequence[Item | Failed]) -> np.ndarray | list[bytes]:
        """Return the output of a signature for denoised images.

        It is an array `(batch, height, width, channels)` for `serving_default`, and a list of the contents of files for
        `denoise_image`.

        Raises:
            Refused: a pixel is not finite, or a file could not be read.
        """
        if failed := next((item for item in denoised if isinstance(item, Failed)), None):
            raise Refused("INVALID_ARGUMENT", failed.error)
        if signature == "denoise_image":
            return list(denoised)  # type: ignore[arg-type]
        output = np.stack(denoised)  # type: ignore[arg-type]
        if not np.isfinite(output).all():
            raise Refused("INVALID_ARGUMENT", "expected noisy of a size that the network can work on")
        return output

    def _floats(self, value):
        shape = value.shape
        if len(shape) != 4 or shape[-1] != self.channels or not all(shape):
            raise Refused("INVALID_ARGUMENT", f"expected noisy [batch,height,width,{self.channels}], got {list(shape)}")
        pixels = int(np.prod(shape[:-1], dtype=object))
        _check_pixels(pixels)
        with np.errstate(over="ignore"):
            noisy = np.asarray(value, np.float32)
        if not np.isfinite(noisy).all():
            raise Refused("INVALID_ARGUMENT", "expected noisy to be finite float32 numbers")
        return Images(list(noisy), pixels)


def _files(contents):
    if not contents:
        raise Refused("INVALID_ARGUMENT", "expected image_bytes of at least one image")
    pixels = 0
    for content in contents:
        pixels += _pixels_of(content)
        _check_pixels(pixels)
    return Images(list(contents), pixels)


def _pixels_of(content: bytes) -> int:
    """Return the number of pixels that the header of a PNG or JPEG file promises."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content), formats=("PNG", "JPEG")) as image:
            return image.width * image.height
    except Image.DecompressionBombError:
        raise Refused("RESOURCE_EXHAUSTED", f"expected at most {MAX_PIXELS:,} pixels, got far more") from None
    except UNREADABLE:
        raise Refused(
            "INVALID_ARGUMENT", "expected image_bytes to hold PNG or JPEG files, got something else"
        ) from None


def _check_pixels(count):
    if count > MAX_PIXELS:
        raise Refused("RESOURCE_EXHAUSTED", f"expected at most {MAX_PIXELS:,} pixels in a request, got more")
