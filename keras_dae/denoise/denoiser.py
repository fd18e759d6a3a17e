"""`Denoiser`: an exported network as a function of images. It needs onnxruntime, and does not import TensorFlow."""

import itertools
import os
import warnings
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from keras_dae._util.batches import run_in_batches
from keras_dae._util.environment import no_telemetry
from keras_dae._util.threads import cores
from keras_dae.denoise.arrays import as_batch, check_image, colours
from keras_dae.denoise.trained_on import TrainedOn, UnlikeTrainingImages
from keras_dae.denoise.white import PartOfRangeWarning, White, choose_white
from keras_dae.errors import UserError, first_line
from keras_dae.images.unit_range import from_unit, to_unit, type_white
from keras_dae.networks.geometry import Grid
from keras_dae.pretrained import MODEL_NAMES, find_model
from keras_dae.runs.parity_file import check_verified

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

TILE = 512  # pixels: height and width of a tile, rounded down to the network's multiple
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
    check_verified(file)
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
    except Exception as error:  # noqa: BLE001 - a damaged installation raises exceptions of any type
        raise UserError(f"cannot import onnxruntime: {first_line(error)}; pip install onnxruntime") from None

    try:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or cores()
        content = model if isinstance(model, bytes) else Path(model).read_bytes()
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        inputs = [(value.name, (value.shape or [None])[-1]) for value in session.get_inputs()]
        outputs = [(value.name, (value.shape or [None])[-1]) for value in session.get_outputs()]
        metadata = session.get_modelmeta().custom_metadata_map
        grid = Grid.from_metadata(metadata)
    except Exception as error:  # noqa: BLE001 - the exceptions of onnxruntime have no common base class
        raise UserError(f"cannot load {name}: {first_line(error)}") from None
    channels = inputs[0][1] if inputs else None
    if inputs != [("noisy", channels)] or outputs != [("denoised", channels)] or channels not in (1, 3):
        raise UserError(f"expected {name} to take `noisy` and give `denoised`, got {inputs} and {outputs}")
    return Denoiser(session, grid, TrainedOn.from_metadata(metadata, channels), (content, name, threads))


class Denoiser:
    """A loaded network. Call it with a noisy image to get the denoised image, with the same shape and type.

    It can be copied and pickled. The copy loads the model again, with as many threads.

    Attributes:
        session: the onnxruntime session.
        grid: the sizes that the network takes, and how far a pixel sees.
        trained_on: what images the network was trained on.
        channels: 1 (grey) or 3 (RGB), as the training images had. A grey network denoises each colour of a colour image
            separately. A colour network gets a grey image as a colour image.

    Example:
        >>> denoiser = load_denoiser("mnist")
        >>> denoiser.channels
        1
        >>> rgb = np.random.default_rng(0).random((30, 50, 3), np.float32)
        >>> denoiser(rgb).shape
        (30, 50, 3)
    """

    def __init__(self, session: "InferenceSession", grid: Grid, trained_on: TrainedOn, source: tuple):
        """Wrap a session. `source` has the arguments of `open_denoiser` that make the same again."""
        self.session = session
        self.grid = grid
        self.trained_on = trained_on
        self.channels = trained_on.channels
        self._source = source
        self._warned: set[type[Warning]] = set()

    def __reduce__(self) -> tuple:
        return open_denoiser, self._source

    def __call__(self, image: np.ndarray, white: White | None = None) -> np.ndarray:
        """Return the denoised image or images.

        Args:
            image: `(height, width)`, `(height, width, channels)` or `(batch, height, width, channels)`. Height and
                width are at least 1. There are 1 to 4 channels: grey, grey and alpha, RGB, or RGB and alpha. Alpha is
                returned unchanged. With a last axis of 17 or more, `(batch, height, width)` is a stack of grey images.
                The type is bool, uint8, uint16, or float in [0, 1], in any byte order. A network that was trained with
                noise beyond [0, 1] takes such floats.
            white: the integer that stands for 1, such as 4095 for 12 bits in uint16; `type` for the largest value of
                the type. None measures it, as `python -m keras_dae.denoise` does: for uint16 below 32768, it is the
                smallest of 255, 511, 1023 … 32767 that is not exceeded. To denoise parts of an image, or images that
                belong together, in several calls, give it.

        Raises:
            UserError: the shape, the type or the value range is another, there are NaN or masked pixels, or `white` is
                no such value.

        Warns:
            PartOfRangeWarning: white was measured, and it is not the largest value of the type. Once per `Denoiser`.
            UnlikeTrainingImages: most of the images are unlike the training images. Once per `Denoiser`.
        """
        if np.ma.is_masked(image) or getattr(image, "mode", "") in ("P", "PA"):  # of a Pillow image
            raise UserError("expected pixels, got a masked array or palette indices; fill or convert the image first")
        image = np.asarray(image)
        check_image(image, self.trained_on.clip)
        try:
            chosen = choose_white([image], "auto" if white is None else white)
        except ValueError as error:
            raise UserError(str(error)) from None
        if white is None and chosen is not None:
            text = f"the values use only a part of {image.dtype}: white is taken as {chosen}; give white="
            self._warn_once(PartOfRangeWarning, f"{text}{chosen}, or white='type' for {type_white(image.dtype)}")
        if word := self.difference(image, chosen):
            self._warn_once(UnlikeTrainingImages, f"{self.trained_on.describe()}; this image is {word}")
        return self.denoise(image, chosen)

    def _warn_once(self, category: type[Warning], text: str) -> None:
        if category not in self._warned:
            self._warned.add(category)
            warnings.warn(text, category, stacklevel=3)

    def difference(self, image: np.ndarray, white: int | None = None) -> str:
        """Return in one word how an image, or most images of a batch, differ from the training images, or nothing.

        Args:
            image: as for a call.
            white: the integer that stands for 1; None for the largest value of the type.
        """
        images = colours(as_batch(image))
        words = self.trained_on.differences(images, white or type_white(image.dtype))
        unlike = Counter(word for word in words if word)
        return unlike.most_common(1)[0][0] if 2 * unlike.total() > len(words) else ""

    def denoise(self, image: np.ndarray, white: int | None = None) -> np.ndarray:
        """Return the denoised image or images, as a call does. Nothing is checked.

        Args:
            image: as for a call.
            white: the integer that stands for 1; None for the largest value of the type.
        """
        images = as_batch(image)
        denoised = self._denoise_colours(colours(images), white)
        if images.shape[-1] in (2, 4):  # the last channel is alpha
            denoised = np.concatenate([denoised, images[..., -1:]], axis=-1)
        return denoised.reshape(image.shape)

    def _denoise_colours(self, images: np.ndarray, white: int | None) -> np.ndarray:
        """Denoise `(n, height, width, 1 or 3)`, whether the network has 1 or 3 channels."""
        count, height, width, colours = images.shape
        if colours == self.channels:
            return self.denoise_batch(images, white)
        if self.channels == 1:
            planes = np.moveaxis(images, -1, 1).reshape(count * colours, height, width, 1)
            return np.moveaxis(self.denoise_batch(planes, white).reshape(count, colours, height, width), 1, -1)
        coloured = self.denoise_batch(np.repeat(to_unit(images, white), 3, axis=-1))
        return from_unit(coloured.mean(axis=-1, keepdims=True), images.dtype, white)

    def denoise_batch(self, images: np.ndarray, white: int | None = None) -> np.ndarray:
        """Return images denoised, in batches, or in tiles if they are large. Nothing is checked.

        Args:
            images: `(n, height, width, channels)`, with the network's number of channels; types as for a call. Floats
                may leave [0, 1].
            white: the integer that stands for 1; None for the largest value of the type.
        """
        _, height, width, _ = images.shape
        if height * width > TILE**2:
            denoised = np.empty_like(images)
            for index, image in enumerate(images):
                self._denoise_tiles(image, denoised[index], white)
            return denoised
        size = max(1, MAX_BATCH_PIXELS // (height * width))
        return run_in_batches(
            lambda batch: from_unit(self._run(to_unit(batch, white)), images.dtype, white), images, size=size
        )

    def _denoise_tiles(self, image: np.ndarray, denoised: np.ndarray, white: int | None = None) -> None:
        """Denoise one `(height, width, channels)` into `denoised`, tile by tile. Only one tile at a time is float.

        The network runs on each tile with a halo that covers its receptive field, and the tiles lie on the network's
        grid. So the pixels of a tile are the same as if the network ran on the
        whole image. Beyond the last row and column of the image, the halo holds its reflection, as the exported graph
        pads it.
        """
        height, width, _ = image.shape
        halo, tile = self.grid.halo, max(1, TILE // self.grid.multiple) * self.grid.multiple
        rows, columns = reflected_rows(height, self.grid), reflected_rows(width, self.grid)
        for top, left in itertools.product(range(0, height, tile), range(0, width, tile)):
            outer_rows = rows[max(top - halo, 0) : top + tile + halo]
            outer_columns = columns[max(left - halo, 0) : left + tile + halo]
            outer = self._run(to_unit(image[np.ix_(outer_rows, outer_columns)], white)[None])[0]
            inner = outer[min(top, halo) :, min(left, halo) :][:tile, :tile]
            inner = inner[: height - top, : width - left]
            denoised[top : top + tile, left : left + tile] = from_unit(inner, image.dtype, white)

    def _run(self, noisy: np.ndarray) -> np.ndarray:
        return np.asarray(self.session.run(["denoised"], {"noisy": noisy})[0])


def reflected_rows(size: int, grid: Grid) -> np.ndarray:
    """Return the row numbers of an image of `size` rows that is padded, by reflection, to a size of the grid.

    Example:
        >>> reflected_rows(30, Grid(multiple=4, min_padded_size=20, receptive_radius=22))[28:].tolist()
        [28, 29, 28, 27]
    """
    missing = grid.padded_size(size) - size
    return np.pad(np.arange(size), (0, missing), "reflect" if size > 1 else "edge")
