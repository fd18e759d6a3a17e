"""`Denoiser`: an exported network as a function of images. It needs onnxruntime, and does not import TensorFlow."""

import hashlib
import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from keras_dae._util.batches import run_in_batches
from keras_dae._util.environment import no_telemetry
from keras_dae._util.json_files import read_json
from keras_dae._util.threads import cores
from keras_dae.errors import UserError, first_line
from keras_dae.images.unit_range import from_unit, to_unit
from keras_dae.networks.geometry import AUTOENCODER
from keras_dae.pretrained import MODEL_NAMES, find_model

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

HALO = AUTOENCODER.halo  # pixels around a tile
TILE = 512  # pixels: height and width of a tile; a multiple of the network's
MAX_BATCH_PIXELS = 2**20


def load_denoiser(path: str | os.PathLike, threads: int | None = None) -> "Denoiser":
    """Load an exported network.

    Args:
        path: run folder with model.onnx, .onnx file, or a name that `python -m keras_dae.models` lists.
        threads: number of threads that compute one image or batch; None for one per core.

    Raises:
        UserError: there is no such file, it is not the export of a denoiser, or it is not the file that the parity
            check of its run verified.

    Example:
        >>> denoiser = load_denoiser("mnist")
        >>> noisy = np.full((28, 28), 255, np.uint8)
        >>> denoised = denoiser(noisy)
        >>> denoised.shape, denoised.dtype
        ((28, 28), dtype('uint8'))
    """
    file = model_file(path)
    return open_denoiser(file, file, threads)


def model_file(path: str | os.PathLike) -> Path:
    """Return the path of the .onnx file that `load_denoiser` loads.

    Raises:
        UserError: there is no such file, or it is not the file that the parity check of its run verified.
    """
    found = find_model(path)
    file = found / "model.onnx" if os.path.isdir(found) else found
    if not os.path.isfile(file):
        raise UserError(
            f"expected a run folder with model.onnx, a .onnx file, or {' or '.join(MODEL_NAMES)}; got {path}; "
            "python -m export makes one"
        )
    _check_verified(file)
    return file


def open_denoiser(model: str | os.PathLike | bytes, name: str | os.PathLike, threads: int | None = None) -> "Denoiser":
    """Return the `Denoiser` of an ONNX model.

    Args:
        model: path or content of the .onnx file.
        name: what error messages call the model.
        threads: see `load_denoiser`.

    Raises:
        UserError: onnxruntime cannot load the model, or the model is not the export of a denoiser.
    """
    try:
        with no_telemetry():
            import onnxruntime
    except ImportError as error:
        raise UserError(f"cannot import onnxruntime: {first_line(error)}; pip install onnxruntime") from None

    try:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or cores()
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        inputs = [(value.name, (value.shape or [None])[-1]) for value in session.get_inputs()]
        outputs = [(value.name, (value.shape or [None])[-1]) for value in session.get_outputs()]
    except Exception as error:  # noqa: BLE001 - the exceptions of onnxruntime have no common base class
        raise UserError(f"cannot load {name}: {first_line(error)}") from None
    channels = inputs[0][1] if inputs else None
    if inputs != [("noisy", channels)] or outputs != [("denoised", channels)] or channels not in (1, 3):
        raise UserError(f"expected {name} to take `noisy` and give `denoised`, got {inputs} and {outputs}")
    return Denoiser(session, channels)


def _check_verified(file: Path) -> None:
    """Raise `UserError` if the run's parity.json holds a checksum of another file; without one, check nothing."""
    parity = file.with_name("parity.json")
    if not os.path.isfile(parity):
        return
    for entry in read_json(parity).values():
        if not isinstance(entry, dict) or entry.get("file") != file.name:
            continue
        if entry.get("sha256") != hashlib.sha256(file.read_bytes()).hexdigest():
            raise UserError(
                f"{file} is damaged, or is not the file that the parity check verified; export it again: "
                "python -m export"
            )


class Denoiser:
    """A loaded network. Call it with a noisy image to get the denoised image, with the same shape and type.

    Attributes:
        session: the onnxruntime session.
        channels: 1 (grey) or 3 (RGB), as the training images had. A grey network denoises each colour of a colour image
            separately. A colour network gets a grey image as a colour image.

    Example:
        >>> denoiser = load_denoiser("mnist")
        >>> denoiser.channels
        1
        >>> rgb = np.random.default_rng(0).random((100, 150, 3), np.float32)
        >>> denoiser(rgb).shape
        (100, 150, 3)
    """

    def __init__(self, session: "InferenceSession", channels: int):
        self.session = session
        self.channels = channels

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Return the denoised image or images.

        Args:
            image: `(height, width)`, `(height, width, channels)` or `(batch, height, width, channels)`. Height and
                width are at least 1. There are 1 to 4 channels: grey, grey and alpha, RGB, or RGB and alpha. Alpha is
                returned unchanged. The type is bool, uint8 in 0 … 255, uint16 in 0 … 65535, or float in [0, 1].

        Raises:
            UserError: the shape, the type or the value range is another, or there are NaN.
        """
        image = np.asarray(image)
        check_image(image)
        images = image.reshape({2: (1, *image.shape, 1), 3: (1, *image.shape), 4: image.shape}[image.ndim])
        if images.shape[-1] in (1, 3):
            denoised = self._denoise_colours(images)
        else:  # the last channel is alpha
            denoised = np.concatenate([self._denoise_colours(images[..., :-1]), images[..., -1:]], axis=-1)
        return denoised.reshape(image.shape)

    def _denoise_colours(self, images: np.ndarray) -> np.ndarray:
        """Denoise `(n, height, width, 1 or 3)`, whether the network has 1 or 3 channels."""
        count, height, width, colours = images.shape
        if colours == self.channels:
            return self.denoise_batch(images)
        if self.channels == 1:
            planes = np.moveaxis(images, -1, 1).reshape(count * colours, height, width, 1)
            return np.moveaxis(self.denoise_batch(planes).reshape(count, colours, height, width), 1, -1)
        coloured = self.denoise_batch(np.repeat(to_unit(images), 3, axis=-1))
        return from_unit(coloured.mean(axis=-1, keepdims=True), images.dtype)

    def denoise_batch(self, images: np.ndarray) -> np.ndarray:
        """Return images denoised, in batches, or in tiles if they are large. Nothing is checked.

        Args:
            images: `(n, height, width, channels)`, with the network's number of channels; types as for a call. Floats
                may leave [0, 1].
        """
        _, height, width, _ = images.shape
        if height * width > TILE**2:
            denoised = np.empty_like(images)
            for index, image in enumerate(images):
                self._denoise_tiles(image, denoised[index])
            return denoised
        size = max(1, MAX_BATCH_PIXELS // (height * width))
        return run_in_batches(lambda batch: from_unit(self._run(to_unit(batch)), images.dtype), images, size=size)

    def _denoise_tiles(self, image: np.ndarray, denoised: np.ndarray) -> None:
        """Denoise one `(height, width, channels)` into `denoised`, tile by tile. Only one tile at a time is float.

        The network runs on each tile with a halo that covers its receptive field, and the tiles lie on the network's
        grid (see `keras_dae.networks.geometry`). So the pixels of a tile are the same as if the network ran on the
        whole image. Beyond the last row and column of the image, the halo holds its reflection, as the exported graph
        pads it.
        """
        height, width, _ = image.shape
        rows, columns = reflected_rows(height), reflected_rows(width)
        for top, left in itertools.product(range(0, height, TILE), range(0, width, TILE)):
            outer_rows = rows[max(top - HALO, 0) : top + TILE + HALO]
            outer_columns = columns[max(left - HALO, 0) : left + TILE + HALO]
            outer = self._run(to_unit(image[np.ix_(outer_rows, outer_columns)])[None])[0]
            inner = outer[min(top, HALO) :, min(left, HALO) :][:TILE, :TILE]
            inner = inner[: height - top, : width - left]
            denoised[top : top + TILE, left : left + TILE] = from_unit(inner, image.dtype)

    def _run(self, noisy: np.ndarray) -> np.ndarray:
        return np.asarray(self.session.run(["denoised"], {"noisy": noisy})[0])


def reflected_rows(size: int) -> np.ndarray:
    """Return the row numbers of an image of `size` rows that is padded, by reflection, to a size that fits the network.

    Example:
        >>> reflected_rows(30)[28:].tolist()
        [28, 29, 28, 27]
    """
    missing = AUTOENCODER.padded_size(size) - size
    return np.pad(np.arange(size), (0, missing), "reflect" if size > 1 else "edge")


def check_image(image: np.ndarray) -> None:
    """Raise `UserError` unless a `Denoiser` takes this array, see `Denoiser.__call__`."""
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
