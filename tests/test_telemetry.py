"""onnxruntime sends nothing to its maker: the variable is set before every import, and nothing is written or sent."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_dae._util.environment import environment

ROOT = Path(__file__).parent.parent
VARIABLE = "ORT_DISABLE_TELEMETRY"
FOLDERS = ("keras_dae", "export", "benchmarks")
PAGES = sorted({*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("saved_models/**/*.md")})
# onnxruntime is silent by itself if it finds a variable of a build service.
SERVICES = re.compile(r"CI|.*(BUILD|GITHUB|GITLAB|TRAVIS|JENKINS|CIRCLE|APPVEYOR|CODESPACE|TF_|PYTEST).*")


def careless_imports(source):
    """Return the numbers of the lines that import onnxruntime while its telemetry is on.

    An import is careful in a block `with no_telemetry():`, or after `os.environ["ORT_DISABLE_TELEMETRY"] = "1"` in the
    same block of statements.
    """
    found = []

    def visit(body, careful):
        for statement in body:
            text = ast.unparse(statement)
            names = [alias.name for alias in getattr(statement, "names", ()) if isinstance(alias, ast.alias)]
            names += [statement.module or ""] if isinstance(statement, ast.ImportFrom) else []
            if any(name.split(".")[0] == "onnxruntime" for name in names) and not careful:
                found.append(statement.lineno)
            if text == f"os.environ['{VARIABLE}'] = '1'":
                careful = True
            silent = text.startswith("with no_telemetry():")
            types = text.startswith("if TYPE_CHECKING:")
            blocks = [getattr(statement, name, []) for name in ("body", "orelse", "finalbody")]
            blocks += [handler.body for handler in getattr(statement, "handlers", [])]
            for block in blocks:
                visit(block, careful or silent or types)

    visit(ast.parse(source).body, False)
    return found


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_import(folder):
    sources = {path: path.read_text(encoding="utf-8") for path in (ROOT / folder).rglob("*.py")}
    assert any("import onnxruntime" in source for source in sources.values())
    assert {path: found for path, source in sources.items() if (found := careless_imports(source))} == {}


def test_every_import_that_is_shown_to_people():
    texts = {path: path.read_text(encoding="utf-8") for path in PAGES}
    texts |= {path: path.read_text(encoding="utf-8") for path in (ROOT / "export").rglob("*.py")}  # these write cards
    blocks = [
        (path, block)
        for path, text in texts.items()
        for block in re.findall(r"```\w*\n(.*?)```", text, re.DOTALL)
        if re.search(r"import onnxruntime|onnxruntime-node\"", block)
    ]
    assert len(blocks) >= 5
    assert [path for path, block in blocks if VARIABLE not in block.split("onnxruntime\n")[0].split("-node")[0]] == []
    for name in ("denoise_onnx.cc", "denoise_onnx.cjs"):
        before, _ = re.split(r"Ort::Env env|require\(\"onnxruntime-node", (ROOT / "export/examples" / name).read_text())
        assert VARIABLE in before


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import onnxruntime", [1]),
        ("def f():\n    import numpy, onnxruntime.quantization as q", [2]),
        ("try:\n    pass\nexcept OSError:\n    from onnxruntime import InferenceSession", [4]),
        ("with no_telemetry():\n    import onnxruntime\nimport onnxruntime", [3]),
        (f"import os\nos.environ['{VARIABLE}'] = '1'\nimport onnxruntime", []),
        ("if TYPE_CHECKING:\n    from onnxruntime import InferenceSession", []),
    ],
)
def test_careless_import_is_found(source, found):
    assert careless_imports(source) == found


def test_variables_are_as_before(monkeypatch):
    monkeypatch.setenv("KERAS_DAE_ONE", "old")
    monkeypatch.delenv("KERAS_DAE_TWO", raising=False)
    before = dict(os.environ)
    with pytest.raises(OSError, match="inside"), environment(KERAS_DAE_ONE="1", KERAS_DAE_TWO="2"):
        assert (os.environ["KERAS_DAE_ONE"], os.environ["KERAS_DAE_TWO"]) == ("1", "2")
        raise OSError("inside")
    assert dict(os.environ) == before


@pytest.fixture
def home(tmp_path):
    """An empty home, and the environment of a process that lives in it, without any variable of ours."""
    folder = tmp_path / "home"
    folder.mkdir()
    kept = {name: value for name, value in os.environ.items() if not SERVICES.fullmatch(name) and name != VARIABLE}
    places = {"HOME": str(folder), "XDG_CACHE_HOME": str(folder / "cache"), "PYTHONPATH": str(ROOT)}
    return folder, {**kept, **places, "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.fixture
def noisy(tmp_path):
    """A folder with some images."""
    folder = tmp_path / "noisy"
    folder.mkdir()
    for index in range(6):
        Image.fromarray(np.full((40, 30 + index), 99, np.uint8)).save(folder / f"{index}.png")
    for name in ("more", "most"):  # so large that each of two processes gets one
        np.save(folder / name, np.zeros((800, 800), np.uint8))
    return folder


def files_in(folder):
    """Return the relative paths of all files below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def test_without_the_variable_there_would_be_files(home):
    """This watches the watchman: this version of onnxruntime writes files that the next tests look for."""
    folder, variables = home
    subprocess.run([sys.executable, "-c", "import onnxruntime"], env=variables, check=True, timeout=300)
    if not files_in(folder):
        pytest.skip("this version of onnxruntime has no telemetry, or takes this machine for a build service")
    assert any("deviceid" in name for name in files_in(folder))


# One process, two processes that each start an interpreter, and a program that uses the package.
JOBS = {
    "one": ["-m", "keras_dae.denoise", "noisy", "--model", "mnist", "--output-dir", "out", "--processes", "1"],
    "two": ["-m", "keras_dae.denoise", "noisy", "--model", "mnist", "--output-dir", "out", "--processes", "2"],
    "library": [
        "-c",
        "import keras_dae, os; keras_dae.load_denoiser('mnist'); assert not os.getenv('ORT_DISABLE_TELEMETRY')",
    ],
    "quantization": ["-c", "import export.to_int8"],
    "example": [
        ROOT / "export/examples/denoise_onnx.py",
        ROOT / "saved_models/mnist/model.onnx",
        "noisy/0.png",
        "a.png",
    ],
}


@pytest.mark.parametrize("job", JOBS)
def test_nothing_is_written_into_the_home(job, home, noisy):
    folder, variables = home
    before = files_in(noisy.parent)
    command = [sys.executable, *map(str, JOBS[job])]
    done = subprocess.run(command, env=variables, cwd=noisy.parent, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert [name for name in files_in(folder) if not name.startswith("cache/keras_dae/")] == []
    new = {name.split("/")[0] for name in set(files_in(noisy.parent)) - set(before)}
    assert new <= {"out", "a.png", "home"}


@pytest.mark.slow
@pytest.mark.parametrize("job", ["one", "two"])
def test_nobody_is_called(job, home, noisy, tmp_path):
    """No process opens a connection, except to this machine, or makes a file elsewhere, not even for a moment."""
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")
    _, variables = home
    command = [
        "strace",
        "-f",
        "-qq",
        "-e",
        "trace=connect,sendto,openat",
        "-o",
        tmp_path / "trace",
        sys.executable,
        *JOBS[job],
    ]
    done = subprocess.run(
        [*map(str, command)], env=variables, cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    if "PTRACE" in done.stderr or "ptrace" in done.stderr:
        pytest.skip(f"strace may not trace: {done.stderr}")
    assert done.returncode == 0, done.stderr
    trace = (tmp_path / "trace").read_text(errors="replace").splitlines()
    made = [line.split('"')[1] for line in trace if "O_CREAT" in line and not line.endswith(")")]
    assert {path.split("/")[0] for path in made if path != os.devnull} == {"out"}
    calls = [line for line in trace if "connect(" in line or "sendto(" in line]
    inside = re.compile(r"AF_UNIX|AF_NETLINK|127\.0\.0\.1|\"::1\"")
    assert [line for line in calls if "sa_family" in line and not inside.search(line)] == []
