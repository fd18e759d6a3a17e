import io
import os
import struct
import subprocess
import sys
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from conftest import assert_user_error, run_module
from dying_worker import dying_at_the_third
from PIL import Image, ImageSequence, UnidentifiedImageError
from PIL.TiffImagePlugin import AppendingTiffWriter

from export.to_onnx import export_onnx
from keras_dae.config import TrainConfig
from keras_dae.denoise import files
from keras_dae.denoise.__main__ import main
from keras_dae.denoise.denoiser import load_denoiser
from keras_dae.denoise.work import Work, list_work, split_into_chunks
from keras_dae.errors import UserError
from keras_dae.images.codec import decode, encode
from keras_dae.images.npy import save_arrays
from keras_dae.images.read import read_image
from keras_dae.networks.autoencoder import build_autoencoder

HEIGHT, WIDTH = 30, 41
GREY = np.random.default_rng(0).random((HEIGHT, WIDTH))
BYTES = np.uint8(np.rint(255 * GREY))
COLOURS = np.dstack([BYTES, BYTES[::-1], BYTES[:, ::-1]])
ALPHA = np.uint8(np.indices((HEIGHT, WIDTH)).sum(0))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The path of a network whose outputs vary."""
    network = build_autoencoder(initialization="torch", seed=0)
    network.set_weights([3 * weight for weight in network.get_weights()])
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    export_onnx(network, path)
    return path


@pytest.fixture(scope="module")
def denoiser(model):
    return load_denoiser(model)


def run(inputs, model, output, *options):
    return main([*map(str, inputs), "--model", str(model), "--output-dir", str(output), *options])


IMAGES = {
    "bits.png": Image.fromarray(GREY > 0.5),
    "grey.png": Image.fromarray(BYTES),
    "grey_alpha.png": Image.fromarray(np.dstack([BYTES, ALPHA])),
    "palette.png": Image.fromarray(COLOURS).quantize(),
    "rgb.png": Image.fromarray(COLOURS),
    "rgba.png": Image.fromarray(np.dstack([COLOURS, ALPHA])),
    "deep.png": Image.fromarray(np.uint16(GREY * 65535)),
    "grey.jpg": Image.fromarray(BYTES),
    "rgb.jpeg": Image.fromarray(COLOURS),
    "cmyk.jpg": Image.fromarray(COLOURS).convert("CMYK"),
    "grey.bmp": Image.fromarray(BYTES),
    "rgb.BMP": Image.fromarray(COLOURS),
    "rgb.webp": Image.fromarray(COLOURS),
    "rgba.webp": Image.fromarray(np.dstack([COLOURS, ALPHA])),
    "grey.tif": Image.fromarray(BYTES),
    "rgba.tiff": Image.fromarray(np.dstack([COLOURS, ALPHA])),
    "deep.tif": Image.fromarray(np.uint16(GREY * 65535)),
    "float.tif": Image.fromarray(np.float32(GREY)),
    "int.tif": Image.fromarray(np.int32(GREY * 65535)),
}


JPEG_OPTIONS = {"quality": 95, "subsampling": 0}
OPTIONS = {"jpg": JPEG_OPTIONS, "jpeg": JPEG_OPTIONS, "webp": {"lossless": True, "exact": True}}


@pytest.mark.slow
@pytest.mark.parametrize("name", IMAGES)
def test_every_format_and_mode_comes_back_as_it_was(name, model, denoiser, tmp_path):
    # A JPEG's output has its tables, so it is as exact as the input.
    IMAGES[name].save(tmp_path / name, **OPTIONS.get(name.split(".")[1], {}))
    assert run([tmp_path / name], model, tmp_path / "out") == 0
    with Image.open(tmp_path / name) as noisy, Image.open(tmp_path / "out" / name) as denoised:
        assert (denoised.format, denoised.mode, denoised.size) == (noisy.format, noisy.mode, noisy.size)
        pixels = np.asarray(noisy.convert("RGB") if noisy.mode == "P" else noisy)
        got = np.asarray(denoised.convert("RGB") if noisy.mode == "P" else denoised)
    if noisy.mode == "CMYK":
        expected = np.stack([denoiser(plane) for plane in np.moveaxis(pixels, -1, 0)], axis=-1)
    else:
        expected = denoiser(pixels.astype(np.uint16) if pixels.dtype == np.int32 else pixels)
    lossy = name.endswith(("jpg", "jpeg")) or noisy.mode == "P"
    error = np.abs(got.astype(float) - expected)
    assert error.mean() < 8 if lossy else error.max() == 0
    assert np.abs(got.astype(float) - pixels).mean() > (0 if got.dtype in (bool, np.float32) else 5)


def test_alpha_is_kept(model, tmp_path):
    IMAGES["rgba.png"].save(tmp_path / "rgba.png")
    run([tmp_path / "rgba.png"], model, tmp_path / "out")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out/rgba.png"))[..., 3], ALPHA)


def test_pages_of_a_tiff(model, denoiser, tmp_path):
    pages = [BYTES, BYTES[:20], 255 - BYTES]
    first, *others = map(Image.fromarray, pages)
    first.save(tmp_path / "pages.tif", save_all=True, append_images=others)
    assert run([tmp_path / "pages.tif"], model, tmp_path / "out") == 0
    with Image.open(tmp_path / "out/pages.tif") as image:
        got = [np.asarray(page) for page in ImageSequence.Iterator(image)]
    assert len(got) == 3
    assert all(np.array_equal(a, denoiser(b)) for a, b in zip(got, pages))


def test_each_page_of_a_tiff_keeps_its_own(model, tmp_path):
    file = tmp_path / "scan.tif"
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    with open(file, "w+b") as target, AppendingTiffWriter(target) as writer:
        for pixels, options in (
            (GREY > 0.5, {"compression": "group4", "dpi": (300, 300)}),
            (noise, {"compression": "tiff_lzw", "icc_profile": b"a profile"}),
            (noise, {"compression": "jpeg", "quality": 95}),
        ):
            Image.fromarray(pixels).save(writer, "TIFF", **options)
            writer.newFrame()
    assert run([file], model, tmp_path / "out") == 0
    with Image.open(tmp_path / "out/scan.tif") as image:
        pages = [(page.info["compression"], page.tag_v2.get(282), page.tag_v2.get(34675)) for page in
                 ImageSequence.Iterator(image)]  # fmt: skip
    assert pages == [("group4", 300, None), ("tiff_lzw", None, b"a profile"), ("jpeg", None, None)]
    kind, pages = decode(file.read_bytes())
    again = decode(encode(kind, pages))[1]
    assert np.abs(np.int16(again[2].pixels) - pages[2].pixels).mean() < 3  # the loss of JPEG at high quality


def test_a_cameras_preview_is_left_out(model, tmp_path):
    images = [Image.fromarray(COLOURS), Image.fromarray(COLOURS[:10, :10])]
    images[0].save(tmp_path / "photo.jpg", "MPO", save_all=True, append_images=images[1:])
    assert run([tmp_path / "photo.jpg"], model, tmp_path / "out") == 0
    with Image.open(tmp_path / "out/photo.jpg") as image:
        assert (image.format, image.size) == ("JPEG", (WIDTH, HEIGHT))


def made_png(depth, kind, *chunks):
    """Return a PNG file of noise, 20×20, that Pillow cannot write. `kind` is the colour type of PNG."""
    size = 20 * {0: 1, 2: 3, 4: 2, 6: 4}[kind] * depth // 8 + (20 * depth % 8 > 0)
    rows = b"".join(b"\0" + np.random.default_rng(row).bytes(size) for row in range(20))
    header = struct.pack(">IIBBBBB", 20, 20, depth, kind, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    )


@pytest.mark.parametrize("kind", [2, 4, 6])
def test_16_bit_colour_is_refused(kind, model, tmp_path, capsys):
    """Pillow reads only 8 of the 16 bits."""
    (tmp_path / "deep.png").write_bytes(made_png(16, kind))
    assert run([tmp_path / "deep.png"], model, tmp_path / "out") == 1
    assert "got 16-bit colour" in capsys.readouterr().err


IN_NOISE = list(np.random.default_rng(0).bytes(3))  # the first pixel of `made_png(8, 2)`


@pytest.mark.parametrize(("depth", "kind", "colour"), [(8, 0, [5]), (8, 2, IN_NOISE), (1, 0, [1]), (4, 0, [3])])
def test_a_transparent_colour_is_kept_as_alpha(depth, kind, colour, model, tmp_path):
    content = made_png(depth, kind, (b"tRNS", struct.pack(f">{len(colour)}H", *colour)))
    (tmp_path / "image.png").write_bytes(content)
    assert run([tmp_path / "image.png"], model, tmp_path / "out") == 0
    alpha = np.asarray(Image.open(tmp_path / "out/image.png").convert("RGBA"))[..., 3]
    grey_or_rgb = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))  # Pillow 11 has no alpha of 1 to 4 bits
    transparent = (grey_or_rgb == np.array(colour) * 255 // (2**depth - 1)).all(-1)
    assert np.array_equal(alpha, np.where(transparent, 0, 255))
    assert transparent.any() and not transparent.all()


def test_only_known_formats_are_opened(model, tmp_path, capsys):
    """For PostScript, Pillow would run an interpreter."""
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n")
    IMAGES["rgb.png"].save(tmp_path / "b.png", "GIF")
    frames = [IMAGES["grey.png"], Image.fromarray(255 - BYTES)]
    frames[0].save(tmp_path / "c.png", save_all=True, append_images=frames[1:])
    assert run([tmp_path], model, tmp_path / "out") == 1
    error = capsys.readouterr().err
    assert "expected PNG, JPEG, TIFF, BMP, WebP, .npy or .npz, got a PostScript file" in error
    assert "got a GIF image; convert it to PNG" in error
    assert "got an animation of 2" in error
    for name in ("a.png", "b.png"):
        with pytest.raises(UnidentifiedImageError):
            read_image(tmp_path / name, 1)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_orientation_profile_and_resolution_are_kept(model, tmp_path, suffix):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / f"turned.{suffix}"
    Image.fromarray(COLOURS).save(path, exif=exif, dpi=(300, 300), icc_profile=b"a profile")
    assert run([path], model, tmp_path / "out") == 0
    with Image.open(tmp_path / "out" / path.name) as image:
        assert image.getexif().get(0x0112) == 6
        assert image.size == ((HEIGHT, WIDTH) if suffix == "tif" else (WIDTH, HEIGHT))  # Pillow turns a TIFF upright
        assert image.info["icc_profile"] == b"a profile"
        assert np.allclose(image.info["dpi"], 300, atol=0.1)


def test_arrays(model, denoiser, tmp_path):
    np.save(tmp_path / "stack.npy", np.float32(GREY)[None, :, :, None])
    np.savez(tmp_path / "several.npz", a=BYTES, b=np.uint16(GREY * 65535))
    assert run([tmp_path / "stack.npy", tmp_path / "several.npz"], model, tmp_path / "out") == 0
    assert np.array_equal(np.load(tmp_path / "out/stack.npy"), denoiser(np.float32(GREY)[None, :, :, None]))
    several = np.load(tmp_path / "out/several.npz")
    assert set(several.files) == {"a", "b"}
    assert np.array_equal(several["a"], denoiser(BYTES))


def test_arrays_of_any_name(model, tmp_path, capsys):
    names = ("file", "allow_pickle", "ü/x")  # the first two are parameters of `np.savez`
    with open(tmp_path / "odd.npz", "wb") as file:
        save_arrays(file, [(name, BYTES) for name in names])
    assert run([tmp_path / "odd.npz"], model, tmp_path / "out") == 0
    assert set(np.load(tmp_path / "out/odd.npz").files) == set(names)
    with open(tmp_path / "twice.npz", "wb") as file:
        save_arrays(file, [("a", BYTES), ("a.npy", BYTES)])
    with zipfile.ZipFile(tmp_path / "twice.npz", "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr("a.npy", b"")
    assert run([tmp_path / "twice.npz"], model, tmp_path / "out") == 1
    assert "expected each name once, got a twice" in capsys.readouterr().err


@pytest.fixture
def tree(tmp_path):
    """9 images of two sizes in two folders, and a file that is not an image."""
    folder = tmp_path / "tree"
    (folder / "a/b").mkdir(parents=True)
    for index in range(9):
        height = HEIGHT if index % 3 else HEIGHT + 7
        image = np.random.default_rng(index).integers(0, 256, (height, WIDTH), np.uint8)
        Image.fromarray(image).save((folder, folder / "a/b")[index % 2] / f"{index}.png")
    (folder / "notes.txt").write_text("left alone")
    return folder


def test_folder_keeps_its_tree(tree, model, denoiser, tmp_path):
    assert run([tree], model, tmp_path / "out") == 0
    made = sorted(path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*.*"))
    assert made == sorted(path.relative_to(tree) for path in tree.rglob("*.png"))
    for path in made:
        noisy, denoised = (np.asarray(Image.open(folder / path)) for folder in (tree, tmp_path / "out"))
        assert np.array_equal(denoised, denoiser(noisy))


def test_a_bad_file_does_not_stop_the_others(tree, model, tmp_path, capsys):
    (tree / "cut.png").write_bytes((tree / "0.png").read_bytes()[:200])
    (tree / "text\n.png").write_text("no image")
    (tree / "empty.jpg").write_bytes(b"")
    np.save(tree / "too_bright.npy", np.full((28, 28), 255.0))
    np.save(tree / "objects.npy", np.array([{}]), allow_pickle=True)
    assert run([tree], model, tmp_path / "out") == 1
    error = capsys.readouterr().err
    assert "5 of 14 files could not be denoised" in error
    for name in ("cut.png", "text\\n.png", "empty.jpg", "too_bright.npy", "objects.npy"):
        assert name in error
    assert len(list((tmp_path / "out").rglob("*.png"))) == 9
    assert len(list((tmp_path / "out").rglob("*"))) == 9 + 2  # and two folders; there are no temporary files
    assert run([tree], model, tmp_path / "out") == 1
    assert "0 denoised" in (error := capsys.readouterr().err)
    assert "9 kept, 5 failed" in error


@pytest.mark.parametrize("names", [["empty.png"], ["empty.png", "grey.png"]])
def test_an_empty_file_comes_first(names, model, tmp_path, capsys):
    (tmp_path / "empty.png").touch()
    IMAGES["grey.png"].save(tmp_path / "grey.png")
    assert run([tmp_path / name for name in names], model, tmp_path / "out") == 1
    assert f"{len(names) - 1} denoised" in capsys.readouterr().err


def test_split_into_chunks():
    sizes = [0, 5, 5, 1, 0, 0, 0, 30, 0]
    works = [Work(Path(str(size)), None) for size in sizes]
    chunks = split_into_chunks(works, lambda work: int(work.source.name), max_files=3, max_bytes=10)
    assert [[int(work.source.name) for work in chunk] for chunk in chunks] == [[0, 5, 5], [1, 0, 0], [0], [30], [0]]


def test_a_stopped_job_does_only_what_is_missing(tree, model, tmp_path, capsys):
    assert run([tree], model, tmp_path / "out") == 0
    (tmp_path / "out/4.png").unlink()
    (tmp_path / "out/2.png").write_bytes(b"kept as it is")
    assert run([tree], model, tmp_path / "out") == 0
    assert "1 denoised" in capsys.readouterr().err
    assert (tmp_path / "out/2.png").read_bytes() == b"kept as it is"
    assert (tmp_path / "out/4.png").is_file()
    assert run([tree], model, tmp_path / "out", "--overwrite") == 0
    assert "9 denoised" in capsys.readouterr().err
    assert (tmp_path / "out/2.png").read_bytes() != b"kept as it is"


def test_several_processes_give_the_same(tree, model, tmp_path, monkeypatch, capsys):
    (tree / "cut.png").write_bytes((tree / "0.png").read_bytes()[:200])
    assert run([tree], model, tmp_path / "one") == 1
    monkeypatch.setattr(files, "MAX_CHUNK_FILES", 2)
    assert run([tree], model, tmp_path / "several", "--processes", "3") == 1
    assert "1 of 10 files" in capsys.readouterr().err
    made = [{path.name: path.read_bytes() for path in (tmp_path / name).rglob("*.*")} for name in ("one", "several")]
    assert len(made[0]) == 9
    assert made[0] == made[1]


@pytest.mark.slow
def test_if_a_process_dies_only_its_file_fails(tree, model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(files, "MAX_CHUNK_FILES", 3)
    monkeypatch.setattr(files, "_load_chunk_denoiser", dying_at_the_third)
    assert run([tree], model, tmp_path / "out", "--processes", "2") == 1
    error = capsys.readouterr().err
    assert "1 of 9 files could not be denoised" in error
    assert "3.png: its process died" in error
    assert len([path for path in (tmp_path / "out").rglob("*.png") if path.name[0] != "."]) == 8


def test_the_output_may_lie_in_the_input(tree, model, denoiser, capsys):
    for done in (9, 0):
        assert run([tree], model, tree / "a/denoised") == 0
        assert f"{done} denoised" in capsys.readouterr().err
    assert len(list((tree / "a/denoised").rglob("*.png"))) == 9
    denoised, noisy = (np.asarray(Image.open(folder / "0.png")) for folder in (tree / "a/denoised", tree))
    assert np.array_equal(denoised, denoiser(noisy))


def test_a_folder_that_cannot_be_read_is_named(tree, model, tmp_path, capsys, monkeypatch):
    scandir = os.scandir

    def refusing(path):
        if str(path).endswith("a/b"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert run([tree], model, tmp_path / "out") == 1
    error = capsys.readouterr().err
    assert "5 denoised" in error
    assert f"{tree}/a/b: " in error


def test_inputs_are_never_overwritten(tree, model, tmp_path, capsys):
    before = (tree / "0.png").read_bytes()
    assert_user_error(run([tree], model, tree, "--overwrite"), capsys.readouterr().err, "would overwrite an input")
    assert_user_error(run([tree / "0.png"], model, tree), capsys.readouterr().err, "would overwrite an input")
    assert (tree / "0.png").read_bytes() == before


def test_two_inputs_of_one_name(tree, model, tmp_path, capsys):
    status = run([tree / "0.png", tree / "a/b/../../0.png"], model, tmp_path / "out")
    assert_user_error(status, capsys.readouterr().err, "both become")


def test_nothing_to_do(model, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert_user_error(run([tmp_path / "empty"], model, tmp_path / "out"), capsys.readouterr().err, "found none")
    assert_user_error(run([tmp_path / "missing"], model, tmp_path / "out"), capsys.readouterr().err, "not there")
    assert_user_error(run([tmp_path], tmp_path / "no.onnx", tmp_path / "out"), capsys.readouterr().err, "no.onnx")


def test_an_empty_path_is_not_the_working_folder(tree, model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tree)
    assert_user_error(run([""], model, tmp_path / "out"), capsys.readouterr().err, "got an empty path")
    with pytest.raises(UserError, match="got an empty path"):
        list_work([tree], "")
    for name in ("dataset", "noisy_dir", "clean_dir", "data_dir"):
        with pytest.raises(UserError, match=f"expected {name} to be a path that is not empty"):
            TrainConfig(**{name: ""})


@pytest.mark.parametrize("kind", ["file", "link to nothing"])
def test_the_output_folder_is_no_folder(kind, tree, model, capsys):
    """Even if it lies among the inputs."""
    place = tree / "out.png"
    place.write_text("a file") if kind == "file" else place.symlink_to("nothing")
    assert_user_error(run([tree], model, place), capsys.readouterr().err, "expected --output-dir to be a folder")


def test_output_that_cannot_be_written(tree, model, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a").write_text("a file")
    assert run([tree], model, tmp_path / "out") == 1
    error = capsys.readouterr().err
    assert "cannot write" in error
    assert "Traceback" not in error


def test_pipe(model, denoiser):
    file = io.BytesIO()
    Image.fromarray(BYTES).save(file, "PNG")
    command = [sys.executable, "-m", "keras_dae.denoise", "-", "--model", str(model)]
    done = subprocess.run(command, input=file.getvalue(), capture_output=True, cwd=Path(__file__).parent.parent)
    assert done.returncode == 0, done.stderr
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(done.stdout))), denoiser(BYTES))
    done = subprocess.run(command, input=b"no image", capture_output=True, cwd=Path(__file__).parent.parent)
    assert_user_error(done.returncode, done.stderr.decode(), "standard input")
    with open("/dev/null", "wb") as unreadable:
        given = {"stdin": unreadable, "capture_output": True}
        done = subprocess.run(command, cwd=Path(__file__).parent.parent, **given)
    assert_user_error(done.returncode, done.stderr.decode(), "cannot read standard input")
    assert done.stdout == b""
    with open("/dev/full", "wb") as full:
        given = {"input": file.getvalue(), "stdout": full, "stderr": subprocess.PIPE}
        done = subprocess.run(command, cwd=Path(__file__).parent.parent, **given)
    assert_user_error(done.returncode, done.stderr.decode(), "No space left")


def test_command_imports_no_tensorflow(tree, model, tmp_path):
    code = (
        "import sys; from keras_dae.denoise.__main__ import main\n"
        f"assert main([{str(tree)!r}, '--model', {str(model)!r}, '--output-dir', {str(tmp_path / 'out')!r}]) == 0\n"
        "assert not {'tensorflow', 'keras', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent.parent)


def test_wrong_use(model):
    for options in (
        ["-", "--output-dir", "out"],
        ["-", "--output-dir", ""],
        ["-", "a.png"],
        ["a.png", "--output-dir", ""],
    ):
        assert run_module("keras_dae.denoise", *options, "--model", model).returncode == 2


def test_outputs_go_into_a_folder_of_the_working_folder(model, tree, tmp_path, monkeypatch, capsys):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert main([str(tree / "0.png"), "--model", str(model)]) == 0
    assert (tmp_path / "here/denoised/0.png").is_file()
    assert "1 denoised in" in (error := capsys.readouterr().err)
    assert "outputs: denoised" in error


def test_encode_is_the_reverse_of_decode():
    for name, image in IMAGES.items():
        file = io.BytesIO()
        image.save(file, {"jpg": "JPEG", "tif": "TIFF"}.get(name.rsplit(".")[1].lower()[:3], image.format or "PNG"))
        kind, pages = decode(file.getvalue())
        _, again = decode(encode(kind, pages))
        assert [page.mode for page in again] == [page.mode for page in pages]
        if kind != "JPEG" and pages[0].mode != "P":
            assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(again, pages))
