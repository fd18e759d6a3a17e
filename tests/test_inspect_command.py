"""The command `keras_dae.inspect`: its output, its exit status, and what it does not import."""

import inspect
import json
import subprocess
import sys

import numpy as np
import pytest
from conftest import assert_user_error, run_module
from matplotlib.figure import Figure
from PIL import Image

from keras_dae.cli import main as keras_dae
from keras_dae.inspect.__main__ import main


@pytest.fixture
def folder(tmp_path):
    """Three pictures with white noise of σ = 12."""
    folder = tmp_path / "noisy"
    folder.mkdir()
    levels = 60 + np.mgrid[:128, :192][1] / 1.5
    for seed in range(3):
        noisy = levels + 12 * np.random.default_rng(seed).standard_normal(levels.shape)
        Image.fromarray(np.rint(noisy).clip(0, 255).astype(np.uint8)).save(folder / f"{seed}.png")
    return folder


def test_lines(folder, capsys):
    assert main([str(folder)]) == 0
    output = capsys.readouterr()
    lines = output.out.splitlines()
    assert [line[:18].strip() for line in lines[:7]] == [
        *("images", "values", "saturated", "noise level", "noise curve", "autocorrelation", "flattest blocks")
    ]
    assert lines[3].startswith("noise level       σ = 1")
    assert "The noise is independent from pixel to pixel" in output.out
    assert lines[-1].startswith("python -m keras_dae.train ")
    assert output.err == ""


def test_json(folder, capsys):
    assert main([str(folder), "--json", "--limit", "2"]) == 0
    result = json.loads(capsys.readouterr().out)
    types = {
        "files": int,
        "sigma": float,
        "gain": float,
        "read_noise": float,
        "lag1": list,
        "lag2": list,
        "saturated": float,
        "correlated": bool,
        "verdict": str,
        "command": str,
    }
    assert {name: type(result[name]) for name in types} == types
    assert result["files"] == 2
    assert result["sigma"] == pytest.approx(12, rel=0.06)
    assert result["read_noise"] == pytest.approx(12, rel=0.1)
    assert [type(value) for value in (*result["lag1"], *result["lag2"])] == [float] * 4
    assert result["correlated"] is False
    assert result["skipped"] == []
    assert "2 images" in result["verdict"]


def test_unreadable_files_are_counted(folder, capsys):
    (folder / "broken.png").write_bytes(b"nothing")
    assert main([str(folder), "--json"]) == 1
    output = capsys.readouterr()
    assert json.loads(output.out)["files"] == 3
    assert "broken.png: not a readable image" in output.err
    assert output.err.splitlines()[-1] == "error: 1 of 4 files or pairs could not be measured, see above"


def test_sub_command(folder, capsys):
    assert keras_dae(["inspect", str(folder)]) == 0
    assert "noise level" in capsys.readouterr().out


def test_mistakes_are_one_line(folder, tmp_path, capsys):
    status = main([str(folder / "0.png")])
    assert_user_error(status, capsys.readouterr().err, "expected a folder of images, got", "which is a file")
    status = main([str(folder), "--second-dir", str(tmp_path / "nowhere")])
    assert_user_error(status, capsys.readouterr().err, "expected a folder of images")
    for arguments, message in (
        (["--picture", "noise.txt"], "expected a file name that ends in .png, .svg, .pdf, got noise.txt"),
        (["--white", "0"], "expected auto, type or an integer from 1 to 65535, got 0"),
    ):
        with pytest.raises(SystemExit) as ended:
            main([str(folder), *arguments])
        assert ended.value.code == 2
        assert message in capsys.readouterr().err


def test_picture_is_written_atomically(folder, tmp_path, monkeypatch):
    picture = tmp_path / "pictures" / "noise.png"
    assert main([str(folder), "--picture", str(picture)]) == 0
    before = picture.read_bytes()
    assert Image.open(picture).size == (1210, 396)

    def half(figure, path):
        path.write_bytes(before[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", half)
    assert main([str(folder), "--picture", str(picture)]) == 2
    assert picture.read_bytes() == before
    assert [path.name for path in picture.parent.iterdir()] == ["noise.png"]


def test_picture_without_a_curve(folder, tmp_path):
    for path in folder.iterdir():
        noise = np.random.default_rng(int(path.stem)).standard_normal((20, 20))
        Image.fromarray((128 + 9 * noise).astype(np.uint8)).save(path)
    assert main([str(folder), "--picture", str(tmp_path / "noise.svg")]) == 0
    assert "not known" in (tmp_path / "noise.svg").read_text()


def test_a_picture_among_the_images_is_refused(folder, tmp_path, capsys):
    before = (folder / "0.png").read_bytes()
    (tmp_path / "link").symlink_to(folder)
    for path in (folder / "0.png", tmp_path / "link" / "0.png", folder / "new.png"):
        status = main([str(folder), "--picture", str(path)])
        assert_user_error(status, capsys.readouterr().err, "expected --picture outside of", "whose images are measured")
    assert (folder / "0.png").read_bytes() == before
    assert not (folder / "new.png").exists()


def test_nothing_heavy_is_imported(folder):
    code = (
        "import sys; from keras_dae.inspect.__main__ import main; main(sys.argv[1:]); "
        "print(*(name for name in ('tensorflow', 'keras', 'matplotlib', 'onnxruntime') if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == ""


def test_the_standard_library_keeps_its_inspect(folder):
    """Whatever the current folder is, `import inspect` is not our package."""
    assert "keras_dae" not in inspect.__file__
    done = run_module("keras_dae.inspect", folder.name, cwd=folder.parent)
    assert done.returncode == 0, done.stderr
    assert "noise level" in done.stdout
