"""Damaged and hostile files. Each gives one clear line, and never a traceback or a wrong result."""

import contextlib
import hashlib
import io
import json
import shutil
import tracemalloc
import zipfile
from collections import Counter
from pathlib import Path

import damaged
import numpy as np
import pytest
from conftest import assert_user_error
from PIL import Image

from export.recheck import int8_tolerance
from export.run import export_run
from keras_dae._util.archives import BOMB_BYTES, BOMB_RATIO
from keras_dae.config import TrainConfig
from keras_dae.data import mnist
from keras_dae.data.load import load_dataset
from keras_dae.data.mnist import load_mnist
from keras_dae.data.splits import DatasetSplits
from keras_dae.denoise.__main__ import main as denoise
from keras_dae.denoise.batching import denoise_contents
from keras_dae.denoise.denoiser import load_denoiser
from keras_dae.errors import UserError
from keras_dae.evaluate.measure import evaluate
from keras_dae.evaluate.trained_runs import check_unseen
from keras_dae.images.npy import load_arrays
from keras_dae.images.read import read_image
from keras_dae.networks.autoencoder import build_autoencoder
from keras_dae.networks.keras_file import load_model, save_model
from keras_dae.report.model_card import write_model_card
from keras_dae.runs.folder import load_config
from keras_dae.torch_weights import load_state_dict, save_state_dict, to_state_dict
from keras_dae.train.run import train_and_evaluate

MIN_FILES = 300  # damaged files in all, not counting JSON files


@pytest.fixture(scope="module")
def run(digits_npz, tmp_path_factory):
    """A finished, exported run."""
    config = TrainConfig(dataset=str(digits_npz), epochs=1, batch_size=16)
    run = train_and_evaluate(config, tmp_path_factory.mktemp("damaged") / "run")
    export_run(run, formats=("onnx",))
    return run


@pytest.fixture(scope="module")
def denoiser():
    return load_denoiser("mnist", threads=1)


@contextlib.contextmanager
def naming(what, pass_on=False):
    """Turn an unexpected exception into an AssertionError that names the file.

    Args:
        what: name of the file.
        pass_on: whether a `UserError`, which is expected, is raised again. Otherwise it is ignored.
    """
    try:
        yield
    except UserError:
        if pass_on:
            raise
    except Exception as error:
        raise AssertionError(f"{what}: {error!r}") from error


def write(folder, index, ending, content):
    path = folder / f"{index}{ending}"
    path.write_bytes(content)
    return path


@pytest.mark.slow
def test_corpus_is_large(run):
    count = sum(1 for _ in (*damaged.arrays_files(), *damaged.image_files(), *damaged.idx_files((40, 28, 28))))
    count += 4 * (damaged.MUTATIONS + len(list(damaged.common())))  # .keras, .onnx, .pt and .safetensors
    assert count >= MIN_FILES


@pytest.mark.slow
def test_arrays(tmp_path):
    used = 0
    for index, (ending, what, content) in enumerate(damaged.arrays_files()):
        path = write(tmp_path, index, ending, content)
        with naming(f"{what}{ending}"):
            dataset = load_dataset(TrainConfig(dataset=str(path)))
            used += 1
            assert dataset.test.clean.shape[1:] == dataset.validation.clean.shape[1:]
            for images in (dataset.validation.clean, dataset.test.clean):
                assert images.shape[0] >= 1
                assert min(images.shape[1:3]) >= 20
                assert images.dtype == np.uint8 or (images.min() >= 0 and images.max() <= 1)
    assert used < 0.2 * index  # a .npy has no checksum, so a changed pixel is not noticed


@pytest.mark.slow
def test_images(run, tmp_path, capsys):
    noisy = tmp_path / "noisy"
    noisy.mkdir()
    for index, (ending, what, content) in enumerate((*damaged.image_files(), *damaged.arrays_files())):
        path = write(noisy, index, ending, content)
        with naming(what), contextlib.suppress(OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            assert read_image(path, 1).shape[2] == 1
    Image.new("L", (30, 20), 100).save(noisy / "good.png")
    assert denoise([str(noisy), "--model", str(run), "--output-dir", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert (tmp_path / "out/good.png").is_file()
    made = {path.name for path in (tmp_path / "out").iterdir()}
    for path in noisy.iterdir():
        failed = f"{path}: " in error.replace(f"{path}: lost: ", "")
        assert (path.name in made) != failed, path
    made_of = Counter(Path(name).suffix for name in made)
    given = Counter(path.suffix for path in noisy.iterdir())
    # Most of the damage is noticed. A lossless WebP has no checksum, and nearly any bits are pixels of it.
    others = [path for path in noisy.iterdir() if path.suffix != ".webp"]
    assert len(made) - made_of[".webp"] < 0.3 * (len(others) - 1)
    # PNG and .npz have checksums. In other files, bits that are flipped in the pixels only give other pixels.
    shares = {ending: made_of[ending] / count for ending, count in given.items()}
    assert all(share < (0.2 if ending in (".png", ".npz") else 0.7) for ending, share in shares.items()), shares


def test_names_and_links(run, tmp_path, capsys):
    noisy = tmp_path / "noisy"
    noisy.mkdir()
    good = tmp_path / "good.png"
    Image.new("L", (30, 20), 100).save(good)
    names = [
        b"line\nbreak.png",
        b"\xff\xfe.png",
        b"\x1b[31mred.png",
        "ü ∂.png".encode(),
        b"-.png",
        b"a" * 251 + b".png",  # 255 bytes, the most that a name may have
    ]
    for name in names:
        (noisy / name.decode("utf-8", "surrogateescape")).write_bytes(good.read_bytes())
    (noisy / "loop").symlink_to(noisy)
    (noisy / "self.png").symlink_to("self.png")
    (noisy / "gone.png").symlink_to("nowhere.png")
    (noisy / "folder.png").mkdir()
    status = denoise([str(noisy), "--model", str(run), "--output-dir", str(tmp_path / "out")])
    error = capsys.readouterr().err
    assert status == 1
    assert "2 of 8 files" in error  # two broken links
    assert "\x1b" not in error
    made = {path.name.encode("utf-8", "surrogateescape") for path in (tmp_path / "out").iterdir()}
    assert made == set(names)


def test_idx(tmp_path, monkeypatch):
    shapes = {"train": (40, 28, 28), "t10k": (8, 28, 28)}
    monkeypatch.setattr(mnist, "SHAPES", shapes)
    files = {}
    for part, shape in shapes.items():
        content = np.random.default_rng(3).integers(0, 256, shape, np.uint8).tobytes()
        files[part] = damaged.idx(shape, content)
        monkeypatch.setitem(mnist.SOURCES["mnist"].checks, part, hashlib.sha256(files[part]).hexdigest())
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(files[part])
    sound = load_mnist("mnist", tmp_path)[0]
    (tmp_path / "train-images-idx3-ubyte").unlink()
    for ending, what, content in damaged.idx_files(shapes["train"]):
        path = tmp_path / f"train-images-idx3-ubyte{ending}"
        path.write_bytes(content)
        with naming(what):  # only a field of the gzip header that is ignored may differ
            assert np.array_equal(load_mnist("mnist", tmp_path)[0], sound)
            assert ending == ".gz"
        path.unlink()


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".keras", ".onnx", ".pt", ".safetensors"])
def test_models(run, tmp_path, ending):
    if ending == ".pt":
        pytest.importorskip("torch", reason="torch is not installed")
    model = load_model(run / "model.keras")
    if ending in (".pt", ".safetensors"):
        save_state_dict(to_state_dict(model), tmp_path / f"sound{ending}")
        sound = (tmp_path / f"sound{ending}").read_bytes()
    else:
        sound = (run / f"model{ending}").read_bytes()
    read = {".keras": load_model, ".onnx": load_denoiser, ".pt": load_state_dict, ".safetensors": load_state_dict}[
        ending
    ]
    expected = weights(read(write(tmp_path, "as it was", ending, sound)))
    for what, content in [*damaged.common(), *damaged.mutations(sound, 6)]:
        with naming(what):
            found = weights(read(write(tmp_path, "damaged", ending, content)))
            if ending in (".keras", ".pt"):  # they have checksums; only bytes that are ignored may differ
                assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


def weights(loaded):
    if isinstance(loaded, dict):
        return list(loaded.values())
    return loaded.get_weights() if hasattr(loaded, "get_weights") else []


def test_damaged_onnx_of_a_run(run, tmp_path):
    """Every changed bit is noticed, because parity.json holds a checksum."""
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    load_denoiser(folder)
    for what, content in damaged.mutations((run / "model.onnx").read_bytes(), 7):
        (folder / "model.onnx").write_bytes(content)
        with pytest.raises(UserError, match="damaged"), naming(what, pass_on=True):
            load_denoiser(folder)


def test_hostile_keras_file_is_not_built(tmp_path):
    save_model(build_autoencoder(), tmp_path / "sound.keras")
    with zipfile.ZipFile(tmp_path / "sound.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = members["config.json"].decode()
    for old, new in (
        ('"class_name": "Conv2D"', '"class_name": "Lambda"'),
        ('"module": "keras.layers"', '"module": "os"'),
        ('"class_name": "ZeroPadding2D"', '"class_name": "TorchModuleWrapper"'),
        ('"activation": "relu"', '"activation": {"class_name": "function", "config": "system", "module": "os"}'),
    ):
        assert old in config
        content = damaged.zip_of({**members, "config.json": config.replace(old, new, 1).encode()})
        (tmp_path / "hostile.keras").write_bytes(content)
        with pytest.raises(UserError, match="could run code"):
            load_model(tmp_path / "hostile.keras")


def many_members(count=100):
    """Return an archive whose members are each far below the limit of a bomb, and together far above it."""
    member = damaged.npy(np.zeros((1, 1024, 1024), np.uint8))
    content = damaged.zip_of({f"{index}.npy": member for index in range(count)}, zipfile.ZIP_DEFLATED)
    assert len(member) < BOMB_BYTES / 10
    assert count * len(member) > max(BOMB_BYTES, BOMB_RATIO * len(content))
    return content


def shared_member(count=100):
    """Return an archive whose members are all the same bytes: each is below the limit of a bomb, by size and ratio."""
    member = damaged.npy(np.random.default_rng(0).integers(0, 256, (1, 700, 700), np.uint8))
    content = damaged.zip_of({"0.npy": member})
    start = content.index(b"PK\x01\x02")
    entry, end = content[start:-22], bytearray(content[-22:])
    for place, value in ((8, count), (10, count)):
        end[place : place + 2] = value.to_bytes(2, "little")
    end[12:16] = (count * len(entry)).to_bytes(4, "little")
    return content[:start] + entry * count + bytes(end)


@pytest.mark.parametrize("kind", ["one member", "many members", "a shared member"])
def test_bombs_take_no_memory(tmp_path, kind, denoiser):
    bomb = {
        "one member": lambda: next(content for _, what, content in damaged.arrays_files() if what == "a bomb"),
        "many members": many_members,
        "a shared member": lambda: shared_member(300),
    }[kind]()
    assert len(bomb) < 2**20
    path = write(tmp_path, "bomb", ".npz", bomb)
    tracemalloc.start()
    with pytest.raises(UserError, match="decompression bomb"):
        load_dataset(TrainConfig(dataset=str(path)))
    with pytest.raises(UserError, match="decompression bomb"):
        load_model(path)
    (refused,) = denoise_contents(denoiser, [bomb])
    assert "decompression bomb" in refused.error
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * 2**20


def test_image_bombs_take_no_memory(tmp_path):
    path = write(tmp_path, "bomb", ".png", damaged.png_of_size(60_000, 60_000))
    tracemalloc.start()
    with pytest.raises((OSError, Image.DecompressionBombError)):
        read_image(path, 1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * 2**20


def test_arrays_are_denoised_one_at_a_time(denoiser):
    """An archive that is no bomb, because its ratio is allowed, may be larger than the memory."""
    pattern = np.random.default_rng(0).random((64, 16))
    member = damaged.npy(np.tile(pattern, (16, 32)))
    content = damaged.zip_of({f"{index}.npy": member for index in range(15)}, zipfile.ZIP_DEFLATED)
    assert 4 * len(content) < 15 * len(member) < BOMB_RATIO * len(content)
    tracemalloc.start()
    (denoised,) = denoise_contents(denoiser, [content])
    peak = tracemalloc.get_traced_memory()[1] - len(denoised.content)
    tracemalloc.stop()
    assert list(np.load(io.BytesIO(denoised.content))) == [str(index) for index in range(15)]
    assert peak < 10 * len(member)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_checksums_of_arrays_are_checked(compression):
    content = damaged.zip_of({"a.npy": damaged.npy(np.arange(50_000) / 50_000)}, compression)
    start = content.index(b"PK\x01\x02")
    changed = bytearray(content)
    changed[start + 16] ^= 1  # of the checksum in the directory
    with pytest.raises(zipfile.BadZipFile, match="Bad CRC"):
        load_arrays(io.BytesIO(changed))
    assert load_arrays(io.BytesIO(content))["a"].shape == (50_000,)


def test_keras_unpacks_nothing(run, tmp_path):
    shutil.copy(run / "model.keras", tmp_path)
    with zipfile.ZipFile(tmp_path / "model.keras", "a") as archive:
        archive.writestr("assets/more.txt", "more")
    with pytest.raises(UserError, match=r"got also assets/more\.txt"):
        load_model(tmp_path / "model.keras")


def unseen(folder):
    check_unseen(folder, TrainConfig(), DatasetSplits("digits", "", None, None, None))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "readers"),
    [
        ("config.json", (load_config, write_model_card, unseen)),
        ("metrics.json", (write_model_card,)),
        ("parity.json", (write_model_card, load_denoiser, int8_tolerance)),
        ("evaluation/evaluation.json", (write_model_card,)),
    ],
)
def test_json(run, tmp_path, name, readers):
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    if not (folder / name).exists():
        evaluate([folder])
    for what, content in damaged.json_files((folder / name).read_bytes(), 8):
        (folder / name).write_bytes(content)
        for read in readers:
            with naming(f"{name} {what}, {read.__name__}"):
                read(folder / "config.json" if read is load_config else folder)


def test_commands_report_it_in_one_line(run, tmp_path, capsys):
    """One damaged file of each kind, through the commands."""
    from export.__main__ import main as export
    from keras_dae.evaluate.__main__ import main as evaluate_main
    from keras_dae.torch_weights import main as torch_weights
    from keras_dae.train.__main__ import main as train

    (tmp_path / "bad\nname.npz").write_bytes(b"PK bad")
    bad = tmp_path / "bad"
    shutil.copytree(run, bad)
    (bad / "model.keras").write_bytes(b"bad")
    (bad / "config.json").write_text(json.dumps({"format": 99, "config": {}}))
    (bad / "list.json").write_text(json.dumps({"format": 2, "config": []}))
    out = ["--output-dir", str(tmp_path / "out")]
    for main, arguments, expected in (
        (
            train,
            ["--dataset", str(tmp_path / "bad\nname.npz"), "--output-dir", str(tmp_path / "out")],
            "bad\\nname.npz",
        ),
        (export, [str(bad)], "cannot load"),
        (export, [str(bad), "--check"], "cannot load"),
        (evaluate_main, [str(bad)], "newer keras_dae"),
        (train, ["--config", str(bad / "config.json")], "pip install --upgrade"),
        (train, ["--config", str(bad / "list.json")], "options as `config`, got []"),
        (torch_weights, ["import", str(bad / "model.keras"), *out], "neither safetensors nor"),
        (
            denoise,
            [str(tmp_path), "--model", str(bad / "model.keras"), "--output-dir", str(tmp_path / "o")],
            "cannot load",
        ),
    ):
        assert_user_error(main(arguments), capsys.readouterr().err, expected)
    assert not (tmp_path / "out").exists()
