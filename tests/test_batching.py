"""Several images are denoised at a time. One that fails has no effect on the others."""

import copy
import io

import numpy as np
import pytest
from PIL import Image

from keras_dae.denoise import batching
from keras_dae.denoise.__main__ import main
from keras_dae.denoise.batching import Failed, denoise_contents
from keras_dae.denoise.denoiser import load_denoiser


@pytest.fixture
def denoiser():
    return load_denoiser("mnist", threads=1)


def content(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def images(count, marked=()):
    """Return different images; the first pixel of the marked ones is 255."""
    made = np.random.default_rng(0).integers(0, 255, (count, 28, 28), np.uint8)
    made[:, 0, 0] = [255 if index in marked else 0 for index in range(count)]
    return made


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("the network is broken"), ValueError("what is this?")])
def test_only_the_image_that_fails_fails(denoiser, monkeypatch, error):
    """A batch of 256 fails as a whole. Then each image is tried alone."""
    given, denoise, sizes = images(300, marked=(7,)), denoiser.denoise, []

    def failing(image, white=None):
        sizes.append(len(image) if image.ndim == 4 else 1)
        if (image.reshape(-1, 28, 28)[:, 0, 0] == 255).any():
            raise error
        return denoise(image, white)

    expected = [denoise(image) for image in given]
    monkeypatch.setattr(denoiser, "denoise", failing)
    results = list(denoise_contents(denoiser, map(content, given)))
    assert sizes == [256, *[1] * 256, 44]
    for index, (result, denoised) in enumerate(zip(results, expected, strict=True)):
        if index == 7:
            assert result == Failed(str(error) or "MemoryError")
        else:
            assert np.array_equal(np.load(io.BytesIO(result.content)), denoised)


def test_images_of_another_white_are_another_batch(denoiser):
    values = (images(6).astype(np.uint16) * 16)[:, :, :24]
    values[3:] //= 8
    values[:3, 0, 0], values[3:, 0, 0] = 4095, 500
    results = list(denoise_contents(denoiser, map(content, values)))
    for value, result in zip(values, results):
        alone = copy.copy(denoiser)(value, white=4095 if value.max() > 511 else 511)
        assert np.array_equal(np.load(io.BytesIO(result.content)), alone)


def test_stacks_are_said_and_come_back(denoiser):
    stack = images(5)
    (result, again, refused, pixel) = denoise_contents(
        denoiser, [content(stack), content(stack), content(stack[:, :, :9]), content(stack[..., :3])]
    )
    assert np.array_equal(np.load(io.BytesIO(result.content)), np.stack([denoiser.denoise(image) for image in stack]))
    assert again == result
    assert [note.kind for note in result.notes] == ["stack"]
    assert "shape (5, 28, 9); for a stack of grey images" in refused.error
    assert "stack" not in {note.kind for note in pixel.notes}  # one small image of three colours


def test_what_is_lost_is_said_for_its_file(denoiser, tmp_path, monkeypatch, capsys):
    """From the reader of a file to the last lines of a job."""
    decode = batching.decode

    def losing(content):
        kind, pages = decode(content)
        lost = ("the thumbnail", "the maker's notes") if pages[0].pixels[0, 0] == 255 else ()
        return kind, [page._replace(lost=lost) for page in pages]

    monkeypatch.setattr(batching, "decode", losing)
    for index, image in enumerate(images(3, marked=(1,))):
        page = Image.fromarray(image)
        page.save(tmp_path / f"{index}.tif", save_all=True, append_images=[page])
    assert main([str(tmp_path), "--model", "mnist", "--output-dir", str(tmp_path / "out"), "--processes", "1"]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "lost: " in line]
    assert lines == [f"{tmp_path / '1.tif'}: lost: the thumbnail; the maker's notes"]  # both pages have lost the same
