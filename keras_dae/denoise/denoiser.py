"""`Denoiser`: an exported network as a function of images. onnxruntime alone, no TensorFlow."""

import hashlib
import itertools
import os

import numpy as np

from keras_dae._util.batches import run_in_batches
from keras_dae._util.json_files import read_json
from keras_dae.errors import UserError, first_line
from keras_dae.images.unit_range import from_unit, to_unit
from keras_dae.networks.geometry import AUTOENCODER
from keras_dae.pretrained import MODEL_NAMES, find_model

HALO = AUTOENCODER.halo  # pixels around a tile
TILE = 512  # pixels to a side of what is run at once; a multiple of the network's
PIXELS_AT_ONCE = 2**20  # of small images in one batch


def load_denoiser(path, threads=None):
    """Return the `Denoiser` in a run folder or a .onnx file, or the shipped one of that name.

    Args:
        path: run folder with model.onnx, the file itself, or a name that `python -m keras_dae.models` lists.
        threads: that one image or batch is computed with; None for one on every core.

    Raises:
        UserError: no such file, or no denoiser of ours in it.
    """
    file = model_file(path)
    return open_denoiser(file, file, threads)


def model_file(path):
    """Return the path of the .onnx file that `load_denoiser` loads. Raises `UserError` unless it is as proven."""
    found = find_model(path)
    file = found / "model.onnx" if os.path.isdir(found) else found
    if not os.path.isfile(file):
        raise UserError(
            f"expected a run folder with model.onnx, a .onnx file, or {' or '.join(MODEL_NAMES)}; got {path}; "
            "python -m export makes one"
        )
    _check_proven(file)
    return file


def open_denoiser(model, name, threads=None):
    """Return the `Denoiser` of an ONNX model, given as a path or as bytes; `name` is what errors call it."""
    import onnxruntime

    try:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        noisy = [(value.name, (value.shape or [None])[-1]) for value in session.get_inputs()]
        denoised = [(value.name, (value.shape or [None])[-1]) for value in session.get_outputs()]
    except Exception as error:  # noqa: BLE001 - onnxruntime raises classes of its own, without a common base
        raise UserError(f"cannot load {name}: {first_line(error)}") from None
    channels = noisy[0][1] if noisy else None
    if noisy != [("noisy", channels)] or denoised != [("denoised", channels)] or channels not in (1, 3):
        raise UserError(f"expected {name} to take `noisy` and give `denoised`, got {noisy} and {denoised}")
    return Denoiser(session, channels)


def _check_proven(file):
    """Raise `UserError` when a run's file is not the one that was proven; files without a proof pass."""
    proof = file.with_name("parity.json")
    if not os.path.isfile(proof):
        return
    for entry in read_json(proof).values():
        if not isinstance(entry, dict) or entry.get("file") != file.name:
            continue
        if entry.get("sha256") != hashlib.sha256(file.read_bytes()).hexdigest():
            raise UserError(f"{file} is damaged, or not the file that was proven; python -m export makes it anew")


class Denoiser:
    """A loaded network: call it with an image, get the denoised image, of the same shape and type.

    Attributes:
        channels: 1 or 3, what the network was trained on. One channel is run on each colour of a colour image; a
            network for colour sees a grey image as a colour one.
    """

    def __init__(self, session, channels):
        self.session = session
        self.channels = channels

    def __call__(self, image):
        """Return `image` denoised.

        Args:
            image: `(height, width)`, `(height, width, channels)` or `(batch, height, width, channels)`, any size from
                1×1; 1 or 3 channels, or 2 or 4, of which the last is alpha and comes back as it is; bool, uint8 or
                uint16 over their whole range, or float in [0, 1].

        Raises:
            UserError: another shape, type or range, or NaN.
        """
        image = np.asarray(image)
        check_image(image)
        images = image.reshape({2: (1, *image.shape, 1), 3: (1, *image.shape), 4: image.shape}[image.ndim])
        if images.shape[-1] in (1, 3):
            denoised = self._denoise_colours(images)
        else:  # the last is alpha
            denoised = np.concatenate([self._denoise_colours(images[..., :-1]), images[..., -1:]], axis=-1)
        return denoised.reshape(image.shape)

    def _denoise_colours(self, images):
        """Denoise `(n, height, width, 1 or 3)` with whichever number of channels the network has."""
        count, height, width, colours = images.shape
        if colours == self.channels:
            return self.denoise_batch(images)
        if self.channels == 1:
            planes = np.moveaxis(images, -1, 1).reshape(count * colours, height, width, 1)
            return np.moveaxis(self.denoise_batch(planes).reshape(count, colours, height, width), 1, -1)
        coloured = self.denoise_batch(np.repeat(to_unit(images), 3, axis=-1))
        return from_unit(coloured.mean(axis=-1, keepdims=True), images.dtype)

    def denoise_batch(self, images):
        """Return images denoised that have the network's own number of channels, unchecked: floats may leave [0, 1].

        `(n, height, width, channels)`, in batches, or in tiles where the images are large.
        """
        _, height, width, _ = images.shape
        if height * width > TILE**2:
            denoised = np.empty_like(images)
            for index, image in enumerate(images):
                self._denoise_tiles(image, denoised[index])
            return denoised
        size = max(1, PIXELS_AT_ONCE // (height * width))
        return run_in_batches(lambda part: from_unit(self._run(to_unit(part)), images.dtype), images, size=size)

    def _denoise_tiles(self, image, denoised):
        """Denoise one `(height, width, channels)` tile by tile into `denoised`; only a tile at a time is float.

        Every tile is run with a halo wider than the network sees, on the same grid of 4 pixels, so that its inner
        pixels are those of the whole image. Outside the image stands its reflection, as in the exported graph.
        """
        height, width, _ = image.shape
        rows, columns = mirrored(height), mirrored(width)
        for top, left in itertools.product(range(0, height, TILE), range(0, width, TILE)):
            outer_rows = rows[max(top - HALO, 0) : top + TILE + HALO]
            outer_columns = columns[max(left - HALO, 0) : left + TILE + HALO]
            outer = self._run(to_unit(image[np.ix_(outer_rows, outer_columns)])[None])[0]
            inner = outer[min(top, HALO) :, min(left, HALO) :][:TILE, :TILE]
            inner = inner[: height - top, : width - left]
            denoised[top : top + TILE, left : left + TILE] = from_unit(inner, image.dtype)

    def _run(self, noisy):
        return self.session.run(["denoised"], {"noisy": noisy})[0]


def mirrored(size):
    """Return which of `size` rows stands at each row of an image that its reflection makes large enough."""
    missing = AUTOENCODER.padded_size(size) - size
    return np.pad(np.arange(size), (0, missing), "reflect" if size > 1 else "edge")


def check_image(image):
    """Raise `UserError` unless `image` is an array that a `Denoiser` takes."""
    if image.ndim not in (2, 3, 4) or (image.ndim > 2 and image.shape[-1] not in (1, 2, 3, 4)) or not image.size:
        raise UserError(
            "expected an image (height, width), (height, width, 1 to 4) or (batch, height, width, 1 to 4), "
            f"got an array of shape {image.shape}"
        )
    if image.dtype not in (np.bool_, np.uint8, np.uint16) and image.dtype.kind != "f":
        raise UserError(f"expected bool, uint8, uint16 or float pixels, got {image.dtype}")
    if image.dtype.kind == "f":
        low, high = image.min(), image.max()
        if not (low >= 0 and high <= 1):  # also for NaN
            raise UserError(f"expected float pixels in [0, 1], got {low:g} … {high:g}")
