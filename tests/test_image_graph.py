"""The signature `denoise_image` of a SavedModel answers as the command line does, or refuses the file."""

import io

import numpy as np
import picture_files
import pytest
import tensorflow as tf
from PIL import Image

from export.to_onnx import export_onnx
from export.to_saved_model import export_saved_model
from keras_dae.denoise.batching import denoise_contents
from keras_dae.denoise.denoiser import load_denoiser
from keras_dae.images.codec import decode
from keras_dae.networks.autoencoder import build_autoencoder


@pytest.fixture(scope="module", params=[1, 3], ids=["grey network", "colour network"])
def served(request, tmp_path_factory):
    """`(denoise_image, Denoiser)` of one network, whose outputs vary."""
    model = build_autoencoder((None, None, request.param), "torch", seed=1)
    model.set_weights([3 * weight for weight in model.get_weights()])
    folder = tmp_path_factory.mktemp("served")
    export_onnx(model, folder / "model.onnx")
    export_saved_model(model, folder / "1")
    signature = tf.saved_model.load(str(folder / "1")).signatures["denoise_image"]
    return lambda contents: signature(tf.constant(contents))["denoised_bytes"].numpy(), load_denoiser(
        folder / "model.onnx"
    )


def command_line(denoiser, content):
    """Return the pixels of a file after the command line denoised it, before a JPEG file loses some."""
    kind, (page,) = decode(content)
    if kind == "JPEG":
        return denoiser(page.pixels)
    (denoised,) = denoise_contents(denoiser, [content])
    if page.mode == "P":  # the command line gives it a palette again, of the nearest colours
        return denoiser(page.pixels)
    pixels = decode(denoised.content)[1][0].pixels
    return np.uint8(255) * pixels if pixels.dtype == np.bool_ else pixels


def test_files_of_all_kinds_have_the_pixels_of_the_command_line(served):
    denoise_image, denoiser = served
    files = picture_files.plain_files()
    for (name, content), answer in zip(files.items(), denoise_image(list(files.values())), strict=True):
        expected = command_line(denoiser, content)
        with Image.open(io.BytesIO(answer)) as image:
            assert image.format == "PNG"
            denoised = np.asarray(image)
        assert (denoised.shape, denoised.dtype) == (expected.shape, expected.dtype), name
        assert np.abs(np.int32(denoised) - expected).max() <= 1, name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("turned.jpg", "EXIF turns"),
        ("turned.png", "EXIF turns"),
        ("cmyk.jpg", "got a CMYK JPEG"),
        ("transparent colour.png", "got a PNG with a transparent colour"),
    ],
)
def test_what_a_png_cannot_say_is_refused_by_name(served, name, expected):
    with pytest.raises(tf.errors.InvalidArgumentError, match=expected):
        served[0]([picture_files.special_files()[name]])


@pytest.mark.parametrize("byte_order", ["<", ">"])
@pytest.mark.parametrize("number", range(1, 9))
def test_every_orientation(served, number, byte_order):
    exif = picture_files.oriented(number)
    exif.endian = byte_order
    content = picture_files.content(picture_files.picture(), "JPEG", exif=exif.tobytes())
    assert {"<": b"Exif\0\0II", ">": b"Exif\0\0MM"}[byte_order] in content
    if number == picture_files.UPRIGHT:
        assert len(served[0]([content])) == 1
        return
    with pytest.raises(tf.errors.InvalidArgumentError, match="expected an upright image"):
        served[0]([content])


def test_other_content_is_refused_by_name(served):
    picture = picture_files.picture()
    animation = picture_files.content(picture, "PNG", save_all=True, append_images=[picture.rotate(90)])
    others = {"GIF": picture_files.content(picture.quantize(), "GIF"), "text": b"no image", "empty": b""}
    for content in others.values():
        with pytest.raises(tf.errors.InvalidArgumentError, match="PNG or JPEG files, got something else"):
            served[0]([content])
    with pytest.raises(tf.errors.InvalidArgumentError, match="got an animation"):
        served[0]([animation])
    with pytest.raises(tf.errors.InvalidArgumentError):
        served[0]([picture_files.content(picture, "PNG")[:-50]])
