"""Small image files of the kinds that people have: what a server answers is compared with the command line."""

import io
import struct
import zlib

import numpy as np
from conftest import smooth_picture
from PIL import Image

UPRIGHT, TURNED = 1, 6  # values of EXIF's orientation
ORIENTATION = 0x0112


def picture(height=33, width=41):
    """Return an RGB picture as a Pillow image."""
    return Image.fromarray(smooth_picture(height, width, seed=3))


def content(image, kind, **options):
    """Return the bytes of an image file that Pillow writes."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def oriented(value):
    """Return EXIF with an orientation."""
    exif = Image.Exif()
    exif[ORIENTATION] = value
    return exif


def plain_files():
    """Return files whose pixels say everything: name -> bytes."""
    rgb = picture()
    grey = rgb.convert("L")
    return {
        "grey.png": content(grey, "PNG"),
        "grey alpha.png": content(rgb.convert("LA"), "PNG"),
        "rgb.png": content(rgb, "PNG"),
        "rgba.png": content(_with_alpha(rgb), "PNG"),
        "palette.png": content(rgb.quantize(), "PNG"),
        "16 bits.png": content(Image.fromarray(np.asarray(grey).astype(np.uint16) * 200 + 20013), "PNG"),
        "12 of 16 bits.png": content(Image.fromarray(np.asarray(grey).astype(np.uint16) * 16), "PNG"),
        "12 of 14 bits.png": _with_significant_bits(
            content(Image.fromarray(np.asarray(grey).astype(np.uint16) * 16), "PNG"), 14
        ),
        "black.png": content(Image.fromarray(np.zeros((33, 41), np.uint16)), "PNG"),
        "two levels.png": content(rgb.convert("1"), "PNG"),
        "grey.jpg": content(grey, "JPEG", quality=85),
        "rgb.jpg": content(rgb, "JPEG", quality=85, subsampling=2),
        "upright.jpg": content(rgb, "JPEG", exif=oriented(UPRIGHT)),
    }


def special_files():
    """Return files whose pixels cannot be understood without their metadata: name -> bytes."""
    rgb = picture()
    return {
        "turned.jpg": content(rgb, "JPEG", exif=oriented(TURNED)),
        "turned.png": content(rgb, "PNG", exif=oriented(TURNED)),
        "cmyk.jpg": content(rgb.convert("CMYK"), "JPEG"),
        "transparent colour.png": content(rgb, "PNG", transparency=rgb.getpixel((0, 0))),
    }


def _with_significant_bits(png, bits):
    """Return a PNG file with a chunk that says how many of its bits are used. It follows the header of 33 bytes."""
    chunk = b"sBIT" + bytes([bits])
    return png[:33] + struct.pack(">I", 1) + chunk + struct.pack(">I", zlib.crc32(chunk)) + png[33:]


def _with_alpha(rgb):
    alpha = np.arange(rgb.width * rgb.height).reshape(rgb.height, rgb.width) % 256
    return Image.fromarray(np.dstack([np.asarray(rgb), alpha.astype(np.uint8)]))
