import functools
import gzip
import hashlib
import http.server
import struct
import threading
import time

import numpy as np
import pytest

from keras_dae.config import TrainConfig
from keras_dae.data import load, mnist
from keras_dae.data.load import load_dataset
from keras_dae.data.mnist import NotAvailable, load_mnist
from keras_dae.errors import UserError

SHAPES = {"train": (30, 28, 28), "t10k": (10, 28, 28)}


@pytest.fixture(autouse=True)
def small_mnist(monkeypatch, tmp_path, digits):
    """Pretend that MNIST has 30 + 10 rendered digits, that nothing is cached, and that there is no network."""
    images = {"train": digits[:30], "t10k": digits[30:40]}
    monkeypatch.setattr(mnist, "SHAPES", SHAPES)
    for source in mnist.SOURCES.values():
        monkeypatch.setitem(source.checks, "train", hashlib.sha256(idx(images["train"])).hexdigest())
    monkeypatch.setitem(mnist.SOURCES["mnist"].checks, "t10k", hashlib.sha256(idx(images["t10k"])).hexdigest())
    monkeypatch.delenv("KERAS_DAE_DATA", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(mnist, "BASE_URL", "http://127.0.0.1:9/")
    return images


def idx(images):
    return struct.pack(">4i", 0x803, *images.shape) + images.tobytes()


def write_npz(path, images):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, x_train=images["train"], x_test=images["t10k"], y_train=[0], y_test=[0])


def write_idx(folder, images, separator="-", compressed=False):
    folder.mkdir(parents=True, exist_ok=True)
    for subset, values in images.items():
        name = f"{subset}-images{separator}idx3-ubyte"
        if compressed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(idx(values)))
        else:
            (folder / name).write_bytes(idx(values))


def assert_loaded(images, name="mnist", data_dir=None):
    for got, expected in zip(load_mnist(name, data_dir), images.values()):
        assert np.array_equal(got, expected)


@pytest.mark.parametrize("separator", ["-", "."])
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("folder", ["", "mnist", "MNIST/raw"])
def test_idx_files(small_mnist, tmp_path, folder, compressed, separator):
    write_idx(tmp_path / "data" / folder, small_mnist, separator, compressed)
    assert_loaded(small_mnist, data_dir=tmp_path / "data")


def test_npz_in_each_place(small_mnist, tmp_path, monkeypatch):
    with pytest.raises(NotAvailable):
        load_mnist("mnist")
    write_npz(tmp_path / "keras/datasets/mnist.npz", small_mnist)
    assert_loaded(small_mnist)
    empty = {subset: np.zeros(shape, np.uint8) for subset, shape in SHAPES.items()}
    write_npz(tmp_path / "env/mnist.npz", empty)
    monkeypatch.setenv("KERAS_DAE_DATA", str(tmp_path / "env"))
    with pytest.raises(UserError, match=r"env/mnist\.npz"):  # it comes before Keras's cache
        load_mnist("mnist")
    write_npz(tmp_path / "given/mnist.npz", small_mnist)
    assert_loaded(small_mnist, data_dir=tmp_path / "given")


def test_an_archive_is_read_once(small_mnist, tmp_path, monkeypatch):
    write_npz(tmp_path / "mnist.npz", small_mnist)
    read, calls = mnist.load_arrays, []
    monkeypatch.setattr(mnist, "load_arrays", lambda file: calls.append(file.name) or read(file))
    assert_loaded(small_mnist, data_dir=tmp_path)
    assert calls == [str(tmp_path / "mnist.npz")]


def test_fashion_mnist(small_mnist, tmp_path):
    write_idx(tmp_path / "keras/datasets/fashion-mnist", small_mnist, compressed=True)
    assert_loaded(small_mnist, "fashion_mnist")


def test_fashion_mnist_is_verified_by_its_sums(small_mnist, tmp_path, monkeypatch):
    values = small_mnist["train"].astype(int)
    monkeypatch.setitem(mnist.SOURCES["fashion_mnist"].checks, "train", (values.sum(), (values**2).sum()))
    write_idx(tmp_path / "fashion-mnist", small_mnist)
    assert_loaded(small_mnist, "fashion_mnist", tmp_path)
    changed = {"train": small_mnist["train"] ^ 1, "t10k": small_mnist["t10k"]}
    write_idx(tmp_path / "fashion-mnist", changed)
    with pytest.raises(UserError, match="checksum"):
        load_mnist("fashion_mnist", tmp_path)


def damaged(name):
    return {
        "truncated": lambda content: content[:-50],
        "long": lambda content: content + b"\0",
        "other pixels": lambda content: content[:-1] + bytes([content[-1] ^ 1]),
        "wrong magic": lambda content: b"\0\0\x08\x01" + content[4:],
        "wrong count": lambda content: content[:4] + struct.pack(">i", 31) + content[8:],
        "empty": lambda content: b"",
        "foreign": lambda content: b"<html>404</html>",
    }[name]


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    "damage", ["truncated", "long", "other pixels", "wrong magic", "wrong count", "empty", "foreign"]
)
def test_damaged_idx_is_named(small_mnist, tmp_path, damage, compressed):
    write_idx(tmp_path, small_mnist, compressed=compressed)
    path = next(tmp_path.glob("t10k*"))
    content = damaged(damage)(idx(small_mnist["t10k"]))
    path.write_bytes(gzip.compress(content) if compressed else content)
    with pytest.raises(UserError, match=f"{path.name} does not hold MNIST's t10k images.*delete or replace"):
        load_mnist("mnist", tmp_path)


@pytest.mark.parametrize("damage", [lambda c: c[:-30], lambda c: c[: len(c) // 2], lambda c: b"", lambda c: b"\0" * 99])
@pytest.mark.parametrize("name", ["mnist.npz", "train-images-idx3-ubyte.gz"])
def test_damaged_archive_is_named(small_mnist, tmp_path, damage, name):
    if name.endswith("npz"):
        write_npz(tmp_path / name, small_mnist)
    else:
        write_idx(tmp_path, small_mnist, compressed=True)
    (tmp_path / name).write_bytes(damage((tmp_path / name).read_bytes()))
    with pytest.raises(UserError, match=f"{name} does not hold MNIST's train images"):
        load_mnist("mnist", tmp_path)


@pytest.mark.parametrize(
    "arrays",
    [
        {"x_test": np.zeros((10, 28, 28), np.uint8)},
        {"x_train": np.zeros((30, 28, 28), np.float32), "x_test": np.zeros((10, 28, 28), np.uint8)},
        {"x_train": np.zeros((31, 28, 28), np.uint8), "x_test": np.zeros((10, 28, 28), np.uint8)},
        {"x_train": np.array([{}], dtype=object), "x_test": np.zeros((10, 28, 28), np.uint8)},
    ],
)
def test_npz_of_something_else(tmp_path, arrays):
    np.savez(tmp_path / "mnist.npz", **arrays)
    with pytest.raises(UserError, match=r"mnist\.npz does not hold MNIST's train images"):
        load_mnist("mnist", tmp_path)


class Server(http.server.ThreadingHTTPServer):
    """Serves one folder. The first `truncated` transfers end in the middle."""

    def __init__(self, folder, truncated=0):
        self.truncated, self.requests = truncated, []
        super().__init__(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/"


class Handler(http.server.SimpleHTTPRequestHandler):
    def copyfile(self, source, outputfile):
        self.server.requests.append(self.path)
        if self.server.truncated > 0:
            self.server.truncated -= 1
            outputfile.write(source.read(100))
            self.close_connection = True
        else:
            super().copyfile(source, outputfile)

    def log_message(self, *args):
        pass


@pytest.fixture
def download(small_mnist, tmp_path, monkeypatch):
    """Return a function that starts a server, which offers small_mnist as mnist.npz."""
    write_npz(tmp_path / "served/mnist.npz", small_mnist)
    content = (tmp_path / "served/mnist.npz").read_bytes()
    monkeypatch.setitem(mnist.SOURCES["mnist"].downloads, "mnist.npz", hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # between retries
    servers = []

    def start(**kwargs):
        servers.append(Server(tmp_path / "served", **kwargs))
        monkeypatch.setattr(mnist, "BASE_URL", servers[-1].url)
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_download_into_keras_cache(small_mnist, download, tmp_path, capfd):
    server = download()
    assert_loaded(small_mnist)
    assert (tmp_path / "keras/datasets/mnist.npz").is_file()
    assert "100%" in capfd.readouterr().err  # the progress bar
    assert_loaded(small_mnist)
    assert len(server.requests) == 1


def test_download_into_data_dir(small_mnist, download, tmp_path):
    download()
    assert_loaded(small_mnist, data_dir=tmp_path / "here")
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["mnist.npz"]


def test_truncated_transfer_is_tried_again(small_mnist, download):
    server = download(truncated=2)
    assert_loaded(small_mnist)
    assert len(server.requests) == 3


def test_transfer_that_never_succeeds_leaves_nothing(download, tmp_path):
    download(truncated=100)
    with pytest.raises(NotAvailable, match="could not be downloaded"):
        load_mnist("mnist", tmp_path / "here")
    assert not any((tmp_path / "here").iterdir())


def test_wrong_content_is_not_kept(download, tmp_path, monkeypatch):
    download()
    monkeypatch.setitem(mnist.SOURCES["mnist"].downloads, "mnist.npz", "0" * 64)
    with pytest.raises(NotAvailable, match="hash"):
        load_mnist("mnist", tmp_path / "here")
    assert not any((tmp_path / "here").iterdir())


def test_missing_at_the_server(download, tmp_path):
    download()
    (tmp_path / "served/mnist.npz").unlink()
    with pytest.raises(NotAvailable, match="404"):
        load_mnist("mnist", tmp_path / "here")


@pytest.fixture
def tiny_digits(monkeypatch, digits):
    monkeypatch.setattr(load, "cached_digits", lambda: (digits[:40], digits[40:50]))


def test_auto_falls_back_to_digits_with_a_message(tiny_digits, capsys):
    dataset = load_dataset(TrainConfig(dataset="auto"))
    assert (dataset.name, len(dataset.test)) == ("digits", 10)
    (line,) = capsys.readouterr().err.splitlines()
    assert "NOT MNIST" in line
    assert "digits" in line


def test_mnist_never_falls_back(tiny_digits):
    with pytest.raises(UserError, match="--data-dir"):
        load_dataset(TrainConfig(dataset="mnist"))


def test_auto_does_not_hide_a_damaged_file(tiny_digits, tmp_path):
    (tmp_path / "mnist.npz").write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"mnist\.npz"):
        load_dataset(TrainConfig(dataset="auto", data_dir=str(tmp_path)))


def test_auto_takes_mnist(small_mnist, tmp_path):
    write_npz(tmp_path / "mnist.npz", small_mnist)
    dataset = load_dataset(TrainConfig(dataset="auto", data_dir=str(tmp_path)))
    assert dataset.name == "mnist"
    assert np.array_equal(dataset.test.clean[..., 0], small_mnist["t10k"])


@pytest.mark.slow
def test_real_mnist(mnist_dir, monkeypatch):
    """The published checksums are those of the real MNIST."""
    monkeypatch.undo()
    train, test = load_mnist("mnist", mnist_dir)
    assert (train.shape, test.shape) == ((60000, 28, 28), (10000, 28, 28))
    assert hashlib.md5(idx(train)).hexdigest() == "6bbc9ace898e44ae57da46a324031adb"
    assert hashlib.md5(idx(test)).hexdigest() == "2646ac647ad5339dbf082846283269ea"
