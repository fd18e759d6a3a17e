"""What kind of file it is, by its first bytes; and the readers and writers of image files."""

import re
from collections.abc import Iterator
from types import ModuleType

from PIL import UnidentifiedImageError

from keras_dae.images import bmp, jpeg, png, tiff, webp
from keras_dae.images.page import Page

FORMATS: dict[str, ModuleType] = {  # each has `read`, `write` and `orientation`
    "PNG": png,
    "JPEG": jpeg,
    "TIFF": tiff,
    "BMP": bmp,
    "WebP": webp,
}
SIGNATURES = {
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "JPEG": rb"\xff\xd8\xff",
    "TIFF": rb"II[*+]\0|MM\0[*+]",
    "BMP": rb"BM",
    "WebP": rb"RIFF....WEBP",
    "a GIF image": rb"GIF8[79]a",
    "an AVIF image": rb"....ftypavi[fs]",
    "a CR3 file, a camera's raw file": rb"....ftypcrx",
    "a HEIC image": rb"....ftyp(hei|hev|mif1|msf1)",
    "a video": rb"....ftyp|RIFF....AVI ",
    "a JPEG 2000 image": rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51",
    "a JPEG XL image": rb"\xff\x0a|\0\0\0\x0cJXL ",
    "a JPEG XR image": rb"II\xbc",
    "a camera's raw file": rb"II(RO|RS|U\0)|MMOR|FUJIFILM",
    "a Photoshop file": rb"8BPS",
    "a PDF document": rb"%PDF",
    "a PostScript file": rb"%!PS|\xc5\xd0\xd3\xc6",
    "an SVG or XML file": rb"\s*<(\?xml|svg)",
    "an icon": rb"\0\0[\x01\x02]\0",
    "an OpenEXR image": rb"v/1\x01",
    "a Radiance image": rb"#\?R",
    "a Netpbm image": rb"P[1-7Ff]\s",
    "a FITS image": rb"SIMPLE  =",
    "a DICOM image": rb".{128}DICM",
    "an HDF5 file": rb"\x89HDF\r\n",
    "a QOI image": rb"qoif",
    "an MNG animation": rb"\x8aMNG",
    "what a Mac keeps beside a file (AppleDouble)": rb"\0\x05\x16\x07",
    ".npy": rb"\x93NUMPY",
    "a zip archive": rb"PK\x03\x04",
}


def kind_of(content: bytes) -> str:
    """Return the kind of a file by its first bytes: a name in `FORMATS`, or a description of another kind.

    Example:
        >>> kind_of(b"II*\\0"), kind_of(b"GIF89a"), kind_of(b""), kind_of(b"hello")
        ('TIFF', 'a GIF image', 'an empty file', 'something else')
    """
    if not content:
        return "an empty file"
    for name, signature in SIGNATURES.items():
        if re.match(signature, content, re.DOTALL):
            return name
    return "something else"


def pages_of(content: bytes) -> tuple[str, Iterator[Page]]:
    """Return the kind of an image file, a name in `FORMATS`, and an iterator over its pages.

    Raises:
        UnidentifiedImageError: it is of another kind.
    """
    kind = kind_of(content)
    if kind not in FORMATS:
        advice = "; convert it to PNG" if re.search("image|raw|Photoshop|HDF5|SVG|video|animation", kind) else ""
        raise UnidentifiedImageError(f"expected {', '.join(FORMATS)}, .npy or .npz, got {kind}{advice}")
    return kind, FORMATS[kind].read(content)
