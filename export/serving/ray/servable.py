"""A run as TensorFlow Serving would serve its SavedModel: the same signatures, names and answers, by onnxruntime."""

import io
from pathlib import Path

import numpy as np

from keras_dae._util.archives import UNREADABLE
from keras_dae.denoise.denoiser import load_denoiser

MAX_BYTES = 64 * 2**20  # of a request
MAX_PIXELS = 2**24  # in all images of a request; some three seconds of one core
GREY = np.array([9797, 19234, 3737], np.uint32)  # of 2¹⁵: how libpng, and so TensorFlow, makes colours grey
SIGNATURES = {"serving_default": ("noisy", "denoised"), "denoise_image": ("image_bytes", "denoised_bytes")}


class Refused(Exception):
    """A request that cannot be answered as it is. `code` is the name of gRPC's status code for that."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


class Servable:
    """The model of a run folder, under a name and a version.

    Attributes:
        channels: 1 or 3, of the images that `serving_default` takes.
    """

    def __init__(self, run, name):
        """Load model.onnx of the folder `run`; one thread computes. Raises `UserError` when it cannot be loaded."""
        self.denoiser = load_denoiser(run, threads=1)
        self.channels = self.denoiser.channels
        self.name = name
        versions = [int(path.name) for path in Path(run, "saved_model").glob("*") if path.name.isdigit()]
        self.version = max(versions, default=1)

    def check(self, name, version=None):
        """Raise `Refused` unless this is the model, and the version or None, that a request asks for."""
        if name != self.name or version not in (None, self.version):
            wanted = "Latest" if version is None else "Specific"
            label = name if version is None else f"{name}, {version}"
            raise Refused("NOT_FOUND", f"Servable not found for request: {wanted}({label})")

    def images(self, signature, value):
        """Return the images in a signature's input as a list of arrays `(height, width, channels)`.

        Args:
            signature: its name.
            value: for `serving_default` an array of numbers `(batch, height, width, channels)`; for `denoise_image` a
                list of the bytes of PNG or JPEG files.

        Raises:
            Refused: another shape or type, numbers that are not finite, no image, or too many pixels.
        """
        return self._floats(value) if signature == "serving_default" else self._files(value)

    def denoise(self, images):
        """Return a list of the images denoised, in their order; those of one shape and type are one batch."""
        denoised = [None] * len(images)
        alike = {}
        for index, image in enumerate(images):
            alike.setdefault((image.shape, image.dtype), []).append(index)
        for indices in alike.values():
            batch = self.denoiser.denoise_batch(np.stack([images[index] for index in indices]))
            for index, image in zip(indices, batch):
                denoised[index] = image
        return denoised

    def output(self, signature, denoised):
        """Return a signature's output from denoised images: an array, or a list of PNG files."""
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


def _read(content, channels, most):
    """Return a PNG or JPEG as uint8 `(height, width, channels)`, as tf.io.decode_image does: not turned, no alpha."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content), formats=("PNG", "JPEG")) as image:
            _check_pixels(image.width * image.height, most)
            if image.format != "PNG":
                return _read_jpeg(content, channels)
            if image.mode.startswith("I"):
                image = Image.fromarray(np.uint8(np.asarray(image) >> 8))
            if channels == 3:
                return np.asarray(image.convert("RGB"))
            if image.mode in ("1", "L", "LA"):
                return np.asarray(image.convert("L"))[..., None]
            colours = np.asarray(image.convert("RGB"), np.uint32)
            return np.uint8(colours @ GREY >> 15)[..., None]
    except Image.DecompressionBombError:
        raise Refused("RESOURCE_EXHAUSTED", f"expected at most {MAX_PIXELS:,} pixels, got far more") from None
    except UNREADABLE:
        raise Refused("INVALID_ARGUMENT", "expected image_bytes to hold PNG or JPEG files, got another one") from None


def _read_jpeg(content, channels):
    """Read a JPEG by TensorFlow. Decoders round differently, by two levels of 255, of which denoising makes more."""
    import tensorflow as tf

    try:
        return tf.io.decode_jpeg(content, channels).numpy()
    except tf.errors.InvalidArgumentError:
        raise ValueError("no JPEG that TensorFlow can read") from None


def _check_pixels(count, most=MAX_PIXELS):
    if count > most:
        raise Refused("RESOURCE_EXHAUSTED", f"expected at most {MAX_PIXELS:,} pixels in a request, got more")


def _png(image):
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, "PNG")
    return file.getvalue()
