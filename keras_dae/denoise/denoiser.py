"""Denoise images with an exported network: `python -m keras_dae.denoise`. onnxruntime alone, no TensorFlow."""

import argparse
import hashlib
import itertools
import os
import sys
import warnings

import numpy as np

from keras_dae import errors
from keras_dae.errors import UserError, first_line
from keras_dae.files import read_json
from keras_dae.models import NAMES, find

MULTIPLE, SMALLEST = 4, 20  # pixels: sizes that the network gives back as they are
HALO = 24  # pixels around a tile; the network sees at most 22 to each side, and tiles lie on multiples of 4
TILE = 512  # pixels to a side of what is run at once; a multiple of 4
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
    found = find(path)
    file = found / "model.onnx" if os.path.isdir(found) else found
    if not os.path.isfile(file):
        raise UserError(
            f"expected a run folder with model.onnx, a .onnx file, or {' or '.join(NAMES)}; got {path}; "
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
        denoised = np.empty_like(images)
        if height * width > TILE**2:
            for index, image in enumerate(images):
                self._denoise_tiles(image, denoised[index])
            return denoised
        step = max(1, PIXELS_AT_ONCE // (height * width))
        for start in range(0, len(images), step):
            part = slice(start, start + step)
            denoised[part] = from_unit(self._run(to_unit(images[part])), images.dtype)
        return denoised

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
    padded = max(SMALLEST, -(-size // MULTIPLE) * MULTIPLE)
    return np.pad(np.arange(size), (0, padded - size), "reflect" if size > 1 else "edge")


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


def to_unit(values):
    """Return pixels of any supported type as float32 in [0, 1]."""
    unit = values.astype(np.float32, copy=False)
    return unit if values.dtype.kind == "f" else unit / np.float32(_white(values.dtype))


def from_unit(values, dtype):
    """Return float pixels in [0, 1] as `dtype`, rounded where that is not float."""
    white = _white(dtype)
    return values.astype(dtype, copy=False) if dtype.kind == "f" else np.rint(values * np.float32(white)).astype(dtype)


def _white(dtype):
    return np.iinfo(dtype).max if dtype.kind == "u" else 1


def _denoise_on_ray():
    try:
        from keras_dae.denoise_ray import denoise_on_ray
    except ImportError as error:
        raise UserError(f"--engine ray needs Ray: pip install 'keras_dae[ray]' ({first_line(error)})") from None
    return denoise_on_ray


def main(argv=None):
    """Command line of `denoise_files`, `denoise_on_ray`, `denoise_pipe`: the exit status, 1 if a file failed."""
    parser = argparse.ArgumentParser(
        prog="python -m keras_dae.denoise",
        description="Denoise image files and folders: PNG, JPEG, TIFF, BMP, .npy and .npz. Each comes out as it went "
        "in: size, mode, depth, name, orientation. `-` reads one file from standard input, writes to standard output.",
    )
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="file, folder (searched recursively), or -")
    parser.add_argument("--model", required=True, help=f"run folder, .onnx file, or {' or '.join(NAMES)}")
    parser.add_argument("--output-dir", help="folder to write into, needed unless INPUT is -")
    parser.add_argument("--overwrite", action="store_true", help="replace outputs that are there already")
    parser.add_argument("--processes", type=int, metavar="N", help="that share the work (one a core)")
    parser.add_argument("--engine", choices=("local", "ray"), default="local", help="ray: a cluster, Parquet, s3://…")
    parser.add_argument("--address", help="of a running Ray cluster, or auto; else Ray starts on this machine")
    parser.add_argument("--column", help="of the images in Parquet files, where there are several")
    options = parser.parse_args(argv)
    if options.processes is not None and options.processes < 1:
        parser.error(f"expected --processes of at least 1, got {options.processes}")
    if "-" in options.inputs and (len(options.inputs) > 1 or options.output_dir):
        parser.error("expected - alone, without --output-dir")
    if "-" not in options.inputs and not options.output_dir:
        parser.error("expected --output-dir")
    if options.engine == "local" and (options.address or options.column):
        parser.error("expected --address and --column with --engine ray")
    if options.engine == "ray" and "-" in options.inputs:
        parser.error("expected files or folders with --engine ray, got -")

    def command():
        from keras_dae.denoise_files import denoise_files, denoise_pipe

        warnings.filterwarnings("ignore", module=r"PIL\.")  # of odd files; what cannot be read is named in the end
        if options.inputs == ["-"]:
            denoise_pipe(load_denoiser(options.model), sys.stdin.buffer, sys.stdout.buffer)
        elif options.engine == "ray":
            denoise_on_ray = _denoise_on_ray()
            job = (options.inputs, options.model, options.output_dir, options.overwrite, options.processes)
            denoise_on_ray(*job, options.address, options.column)
        else:
            denoise_files(options.inputs, options.model, options.output_dir, options.overwrite, options.processes)

    return errors.run(command)


if __name__ == "__main__":
    sys.exit(main())
