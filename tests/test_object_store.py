"""Images in an object store: a server that speaks S3, on this machine."""

import io
import os
from pathlib import PurePosixPath
from unittest import mock

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("pyarrow.fs", reason="pyarrow is not installed: pip install 'keras_dae[ray]'")
pytest.importorskip("moto.server", reason="moto is not installed: pip install 'moto[server]'")

from moto.server import ThreadedMotoServer

from keras_dae.denoise.chunk import denoise_chunk
from keras_dae.denoise.denoiser import load_denoiser
from keras_dae.denoise.ray.filesystem import MAX_MEMORY_BYTES, FilesystemAccess, atomic_stream, list_files, resolve
from keras_dae.denoise.work import Work

KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_EC2_METADATA_DISABLED": "true"}


@pytest.fixture(scope="module")
def server():
    """The options of addresses in the store."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    with mock.patch.dict(os.environ, KEYS):
        yield "?scheme=http&endpoint_override={}:{}&allow_bucket_creation=true".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def store(server, request):
    """A filesystem, and a path in an empty bucket."""
    filesystem, path = resolve(f"s3://{request.node.name.replace('_', '-').lower()}/scans{server}")
    filesystem.create_dir(path.parts[0])
    return filesystem, path


def put(filesystem, path, content):
    with filesystem.open_output_stream(str(path)) as stream:
        stream.write(content)


def get(filesystem, path):
    with filesystem.open_input_stream(str(path)) as stream:
        return stream.read()


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_listing(store):
    filesystem, path = store
    for name in ("b.png", "more/a.PNG", "notes.txt", ".hidden.png"):
        put(filesystem, path / name, b"12345")
    assert list_files(filesystem, path, (".png",)) == {path / "b.png": 5, path / "more" / "a.PNG": 5}
    assert list_files(filesystem, path / "b.png") == {path / "b.png": 5}
    assert list_files(filesystem, path / "nothing") is None


def test_denoising(store, digits):
    filesystem, path = store
    for index, pixels in enumerate(digits[:3]):
        put(filesystem, path / f"{index}.png", png(pixels))
    put(filesystem, path / "bad.png", b"not an image")
    works = [Work(file, PurePosixPath(path.parts[0], "out", file.name)) for file in list_files(filesystem, path)]
    denoiser = load_denoiser("mnist", threads=1)
    result = denoise_chunk(denoiser, works, FilesystemAccess(filesystem, filesystem))
    failures = getattr(result, "failures", result)
    assert [failure.source.name for failure in failures] == ["bad.png"]
    outputs = list_files(filesystem, PurePosixPath(path.parts[0], "out"))
    assert [file.name for file in outputs] == ["0.png", "1.png", "2.png"]
    for file, pixels in zip(outputs, digits):
        written = np.asarray(Image.open(io.BytesIO(get(filesystem, file))))
        np.testing.assert_array_equal(written, denoiser(pixels))


@pytest.mark.parametrize("size", [10, MAX_MEMORY_BYTES + 1])
def test_failed_write_publishes_nothing(server, size, request):
    filesystem, path = resolve(f"s3://failed-write-{size}/scans{server}")
    filesystem.create_dir(path.parts[0])
    with atomic_stream(filesystem, path / "whole") as stream:
        stream.write(bytes(size))
    with pytest.raises(ZeroDivisionError), atomic_stream(filesystem, path / "half") as stream:
        stream.write(bytes(size))
        raise ZeroDivisionError
    assert list_files(filesystem, path) == {path / "whole": size}
