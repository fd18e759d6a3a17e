"""Image files in and out as TensorFlow operators: what the signature `denoise_image` of a SavedModel does around the
network. The pixels are those that `python -m keras_dae.denoise` computes, or the file is refused.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from keras_dae.images.unit_range import MAX_WHITE_BITS, MIN_WHITE_BITS

PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"  # the first bytes of the files
HEADER_BYTES = 26  # of a PNG file; byte 24 holds the bits per channel, and byte 25 the kind of colours
GREY, RGB = b"\x00", b"\x02"  # kinds of colours in a PNG file without a palette and without an alpha channel
# Regular expressions of RE2, which TensorFlow uses. `\C` is any byte. EXIF's orientation is tag 0x0112, an integer from
# 1 (upright) to 8, in either byte order.
TURNED = (
    r"\C*(?:Exif\x00\x00|eXIf)(?:"
    r"II\C*\x12\x01[\x03\x04]\x00\x01\x00\x00\x00[\x02-\x08]\x00|"
    r"MM\C*\x01\x12\x00(?:\x03\x00\x00\x00\x01|\x04\x00\x00\x00\x01\x00\x00)\x00[\x02-\x08])\C*"
)


class Decoded(NamedTuple):
    """An image file that was read.

    Attributes:
        colours: int32 `(height, width, 1 or 3)`.
        alpha: int32 `(height, width, 0 or 1)`.
        white: the number in `colours` that stands for 1, scalar int32, see `keras_dae.images.unit_range`.
        bits: per channel, scalar int32: 1, 8 or 16.
    """

    colours: tf.Tensor
    alpha: tf.Tensor
    white: tf.Tensor
    bits: tf.Tensor


def decode(content: tf.Tensor) -> Decoded:
    """Read a PNG or JPEG file: scalar string.

    Raises:
        tf.errors.InvalidArgumentError: it is another file; or a file whose pixels cannot be understood without its
            metadata: turned by EXIF's orientation, a CMYK JPEG, a PNG with a transparent colour, or an animation.
    """
    is_png = tf.strings.substr(_padded(content), 0, len(PNG)) == PNG
    is_jpeg = tf.strings.substr(_padded(content), 0, len(JPEG)) == JPEG
    _expect(is_png | is_jpeg, "expected image_bytes to hold PNG or JPEG files, got something else")
    is_turned = tf.strings.regex_full_match(content, TURNED)
    _expect(~is_turned, "expected an upright image, got one that EXIF turns; turn its pixels first")
    pixels, bits, declared = tf.cond(is_png, lambda: _decode_png(content), lambda: _decode_jpeg(content))
    count = tf.where(tf.shape(pixels)[-1] < 3, 1, 3)
    colours = pixels[..., :count]
    white = tf.where(bits == 16, _range_white(tf.reduce_max(colours), declared), 2**bits - 1)
    return Decoded(colours, pixels[..., count:], white, bits)


def _decode_png(content):
    header = _padded(content)
    depth, kind = tf.strings.substr(header, 24, 1), tf.strings.substr(header, 25, 1)
    head = tf.strings.split(content, "IDAT", maxsplit=1)[0]  # what is before the pixels
    is_transparent = ((kind == GREY) | (kind == RGB)) & _holds(head, "tRNS")
    _expect(~is_transparent, "expected an alpha channel, got a PNG with a transparent colour; convert it to RGBA first")
    _expect(~_holds(head, "acTL"), "expected a still image, got an animation")
    bits = tf.where(depth == b"\x10", 16, tf.where((depth == b"\x01") & (kind == GREY), 1, 8))
    pixels = tf.cast(tf.io.decode_png(content, channels=0, dtype=tf.uint16), tf.int32)
    declared = tf.cond(_holds(head, "sBIT"), lambda: _first_byte_after(head, "sBIT"), lambda: 16)
    return pixels // (65535 // (2**bits - 1)), bits, declared  # TensorFlow scales fewer bits to 16


def _decode_jpeg(content):
    _expect(
        tf.io.extract_jpeg_shape(content)[2] < 4,
        "expected a grey or RGB image, got a CMYK JPEG, which a PNG cannot hold; convert it first",
    )
    # Other programs decode accurately. TensorFlow's default is faster, and up to six levels of 255 off.
    pixels = tf.io.decode_jpeg(content, channels=0, dct_method="INTEGER_ACCURATE")
    return tf.cast(pixels, tf.int32), 8, 8


def _range_white(maximum, declared_bits):
    """Return `keras_dae.images.unit_range.range_white` of a 16-bit image."""
    whites = tf.constant([2**bits - 1 for bits in (*range(MIN_WHITE_BITS, MAX_WHITE_BITS + 1), 16)])
    smallest = whites[tf.searchsorted(whites, maximum[None])[0]]
    declared = 2**declared_bits - 1
    is_depth = (declared_bits > MIN_WHITE_BITS) & (declared_bits <= MAX_WHITE_BITS)
    is_believed = is_depth & (smallest < whites[-1]) & (maximum <= declared)
    return tf.where(maximum == 0, whites[-1], tf.where(is_believed, declared, smallest))


def denoise_decoded(denoise: Callable[[tf.Tensor], tf.Tensor], image: Decoded, channels: int) -> Decoded:
    """Denoise the colours of an image, as `keras_dae.denoise.denoiser.Denoiser` does.

    Args:
        denoise: the network, see `export.graph.network`.
        image: the image; its alpha is returned unchanged.
        channels: 1 or 3, of the network. A grey network denoises each colour separately. A colour network gets a grey
            image as a colour image.
    """
    white = tf.cast(image.white, tf.float32)
    noisy = tf.cast(image.colours, tf.float32) / white
    if channels == 1:
        planes = tf.transpose(noisy, (2, 0, 1))[..., None]
        denoised = tf.transpose(denoise(planes)[..., 0], (1, 2, 0))
    else:
        count = tf.shape(noisy)[-1]
        rgb = denoise(tf.tile(noisy, [1, 1, channels // count])[None])[0]
        denoised = tf.cond(count == 1, lambda: tf.reduce_mean(rgb, -1, keepdims=True), lambda: rgb)
    return image._replace(colours=tf.cast(tf.round(denoised * white), tf.int32))


def encode(image: Decoded) -> tf.Tensor:
    """Return the bytes of a PNG file, scalar string. An image of two levels is written with 8 bits."""
    pixels = tf.concat([image.colours, image.alpha], -1)
    return tf.cond(
        image.bits == 16,
        lambda: tf.io.encode_png(tf.cast(pixels, tf.uint16)),
        lambda: tf.io.encode_png(tf.cast(pixels * 255 // (2**image.bits - 1), tf.uint8)),
    )


def _padded(content):
    """Return the content, long enough for `substr` on the header of any file."""
    return tf.strings.join([content, bytes(HEADER_BYTES)])


def _first_byte_after(content, word):
    return tf.cast(tf.io.decode_raw(tf.strings.split(content, word, maxsplit=1)[1], tf.uint8)[0], tf.int32)


def _holds(content, word):
    return tf.strings.regex_full_match(content, rf"\C*{word}\C*")


def _expect(condition, message):
    tf.debugging.Assert(condition, [message])
