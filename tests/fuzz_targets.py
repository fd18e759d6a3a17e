"""What is fuzzed: a function for each reader of files. It takes the content of a file.

A reader must raise `UserError` or return a sound result: the one that follows from the content by another way. So
`denoise_chunk` must report a failure or write the pixels that the network makes of the decoded pixels, and a model that
loads must give the undamaged model's pixels.
"""

import json
import shutil
from pathlib import Path

import damaged
import numpy as np

from keras_dae.config import TrainConfig
from keras_dae.data import mnist
from keras_dae.data.array_file import array_dataset, read_arrays
from keras_dae.denoise.chunk import denoise_chunk
from keras_dae.denoise.denoiser import load_denoiser
from keras_dae.denoise.work import Work
from keras_dae.errors import UserError, printable
from keras_dae.images.codec import decode
from keras_dae.runs.folder import load_config

LOSSLESS = ("PNG", "BMP", "npy", "npz")  # the kinds of files whose pixels can be compared
SHAPES = {"train": (40, 28, 28), "t10k": (8, 28, 28)}


class Targets:
    """The readers, and sound files to mutate.

    Args:
        folder: empty folder, where the files are written.
        run: finished run with model.onnx.
    """

    def __init__(self, folder, run):
        self.folder, self.run = Path(folder), Path(run)
        self.denoiser = load_denoiser(run, threads=1)
        mnist.SHAPES = SHAPES
        mnist.SOURCES["mnist"].checks.update(train=None, t10k=None)
        (self.folder / "mnist").mkdir()
        random = np.random.default_rng(0)
        idx = {part: damaged.idx(shape, random.bytes(int(np.prod(shape)))) for part, shape in SHAPES.items()}
        (self.folder / "mnist" / "t10k-images-idx3-ubyte").write_bytes(idx["t10k"])
        images = random.integers(0, 256, (6, 20, 24), np.uint8)
        self.functions = {
            "images": self.images,
            "arrays": self.arrays,
            "idx": self.idx,
            "safetensors": self.safetensors,
            "config": self.config,
            "card": self.card,
            "onnx": self.onnx,
            "keras": self.keras,
        }
        formats = ("PNG", "JPEG", "TIFF", "BMP", "WebP")
        modes = ("1", "L", "LA", "P", "RGB", "RGBA")
        pictures = [damaged.image_bytes(kind, mode) for kind in formats for mode in modes if _can(kind, mode)]
        pictures += [damaged.image_bytes("TIFF", compression=name) for name in ("tiff_lzw", "tiff_deflate", "jpeg")]
        pictures += [damaged.tiff(np.zeros((20, 20), dtype)) for dtype in (np.uint16, np.int32, np.float32)]
        arrays = [damaged.npy(images), damaged.npz(x_train=images, x_test=images), damaged.npz(images=images / 255)]
        self.seeds = {
            "images": pictures + arrays,
            "arrays": arrays,
            "idx": [idx["train"], damaged.gzip.compress(idx["train"])],
            "safetensors": [self._safetensors()],
            "config": [(self.run / "config.json").read_bytes()],
            "card": [(self.run / "metrics.json").read_bytes()],
            "onnx": [(self.run / "model.onnx").read_bytes()],
            "keras": [(self.run / "model.keras").read_bytes()],
        }

    def images(self, content):
        source, target = self.folder / "image.png", self.folder / "denoised.png"
        source.write_bytes(content)
        target.unlink(missing_ok=True)
        failures = denoise_chunk(self.denoiser, [Work(source, target)]).failures
        if failures:
            assert printable(failures[0].error)
            assert not target.exists()
            return
        kind, pages = decode(content)
        same_kind, denoised = decode(target.read_bytes())
        assert kind == same_kind
        assert [page.pixels.shape for page in pages] == [page.pixels.shape for page in denoised]
        if kind in LOSSLESS:
            for page, written in zip(pages, denoised):
                if page.mode != "P":  # a palette is chosen anew
                    np.testing.assert_array_equal(written.pixels, self.denoiser(page.pixels))

    def arrays(self, content):
        path = self.folder / "arrays.npz"
        path.write_bytes(content)
        try:
            config = TrainConfig(dataset=str(path))
            dataset = array_dataset(config, "arrays", *read_arrays(path, config))
        except UserError:
            return
        assert len(dataset.validation) >= 1
        assert dataset.test.clean.shape[1:] == dataset.validation.clean.shape[1:]

    def idx(self, content):
        ending = ".gz" if content.startswith(b"\x1f\x8b") else ""
        path = self.folder / "mnist" / f"train-images-idx3-ubyte{ending}"
        path.write_bytes(content)
        try:
            assert mnist.load_mnist("mnist", path.parent)[0].shape == SHAPES["train"]
        except UserError:
            pass
        finally:
            path.unlink()

    def safetensors(self, content):
        from keras_dae.torch_weights import expected_shapes, load_state_dict

        path = self.folder / "weights.safetensors"
        path.write_bytes(content)
        try:
            state = load_state_dict(path)
        except UserError:
            return
        assert all(state[name].shape == shape for name, shape in expected_shapes(1).items())
        assert all(np.isfinite(value).all() for value in state.values())

    def config(self, content):
        path = self.folder / "config.json"
        path.write_bytes(content)
        try:
            config = load_config(path)
        except UserError:
            return
        assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config

    def card(self, content):
        from keras_dae.report.model_card import write_model_card

        folder = self.folder / "run"
        folder.mkdir(exist_ok=True)
        shutil.copy(self.run / "config.json", folder)
        (folder / "metrics.json").write_bytes(content)
        (folder / "README.md").unlink(missing_ok=True)
        try:
            write_model_card(folder)
        except UserError:
            assert not (folder / "README.md").exists()
            return
        metrics = json.loads(content)
        rows = [line for line in (folder / "README.md").read_text().splitlines() if line.startswith("| ")]
        for name in ("noisy", "median", "test"):
            mse, psnr, ssim = (metrics[name][key] for key in ("mse", "psnr", "ssim"))
            assert all(np.isfinite(value) for value in (mse, psnr, ssim)) and mse >= 0
            assert any(row.endswith(f"| {mse:.5f} | {psnr:.2f} | {ssim:.3f} |") for row in rows)

    def onnx(self, content):
        """A file without parity.json must give images of the right shape; one that parity.json names must be sound."""
        path = self.folder / "model.onnx"
        path.write_bytes(content)
        noisy = self.noisy()
        try:
            denoised = load_denoiser(path, threads=1)(noisy)
        except UserError:
            pass
        else:
            assert (denoised.shape, denoised.dtype) == (noisy.shape, noisy.dtype)
        verified = self.folder / "verified"
        verified.mkdir(exist_ok=True)
        shutil.copy(self.run / "parity.json", verified)
        shutil.copy(path, verified)
        try:
            denoised = load_denoiser(verified, threads=1)(noisy)
        except UserError:
            return
        np.testing.assert_array_equal(denoised, self.denoiser(noisy))

    def keras(self, content):
        from keras_dae.networks.keras_file import load_model

        path = self.folder / "model.keras"
        path.write_bytes(content)
        try:
            model = load_model(path)
        except UserError:
            return
        noisy = self.noisy()[None, ..., None]
        expected = load_model(self.run / "model.keras").predict_on_batch(noisy)
        np.testing.assert_array_equal(model.predict_on_batch(noisy), expected)

    def noisy(self):
        """Return a noisy image, float32 (28, 28) in [0, 1]."""
        return np.random.default_rng(0).random((28, 28), np.float32)

    def _safetensors(self):
        from keras_dae.networks.keras_file import load_model
        from keras_dae.torch_weights import save_state_dict, to_state_dict

        save_state_dict(to_state_dict(load_model(self.run / "model.keras")), self.folder / "sound.safetensors")
        return (self.folder / "sound.safetensors").read_bytes()


def _can(kind, mode):
    modes = {"JPEG": ("L", "RGB"), "WebP": ("RGB", "RGBA"), "BMP": ("1", "L", "P", "RGB", "RGBA")}
    return mode in modes.get(kind, (mode,))
