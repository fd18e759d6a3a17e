"""Every package that the code imports is declared: in setup.cfg, and for inference in requirements-inference.txt."""

import ast
import configparser
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OUR_PACKAGES = {"keras_dae", "export", "benchmarks", "tests"} | {path.stem for path in (ROOT / "tests").glob("*.py")}
# Import name -> name on the package index, where the two differ.
DISTRIBUTIONS = {
    "PIL": "pillow",
    "ai_edge_litert": "ai-edge-litert",
    "google": "protobuf",
    "grpc": "grpcio",
    "skimage": "scikit-image",
    "tensorflow_serving": "tensorflow-serving-api",
}
# Imports that are not declared, and why.
UNDECLARED = {
    "atheris": "tests/campaign_fuzz.py can use it; its docstring says how to install it",
    "moto": "tests/test_object_store.py says how to install it",
    "openvino": "docs/exports.md says how to install it",
    "setuptools": "setup.py: named in pyproject.toml",
    "urllib3": "its Retry is an argument of requests, which depends on it",
}
# Optional features of the packages, by the folder that may import them besides install_requires.
EXTRAS = {
    "keras_dae/denoise/ray": ("ray",),
    "keras_dae/train": ("tensorboard",),
    "keras_dae/networks/torch_file.py": ("torch",),
    "export/serving/ray": ("ray",),
    "export/to_litert.py": ("litert",),
    "export/parity/consumer.py": ("litert",),
    "keras_dae/evaluate/baselines.py": ("bm3d",),
    "benchmarks": ("torch", "bench", "ray", "litert"),
    "tests": ("test", "torch", "ray", "litert"),
}
INFERENCE = ("keras_dae/denoise/*.py", "keras_dae/images/*.py", "keras_dae/_util/*.py", "keras_dae/pretrained.py")
NOT_FOR_INFERENCE = {"filelock": "keras_dae/_util/atomic.py imports it where a run is locked"}


def declared(extras=()):
    """Return the names of the packages in install_requires and in some extras of setup.cfg."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    lines = [config["options"]["install_requires"], *(config["options.extras_require"][extra] for extra in extras)]
    return names_in("\n".join(lines))


def names_in(requirements):
    """Return the package names in lines of requirements."""
    lines = (line.split("#")[0].strip() for line in requirements.splitlines())
    return {re.match(r"[\w.-]+", line)[0].lower().replace("_", "-") for line in lines if line}


def imported(file):
    """Return the packages that a file imports, also inside functions, as names on the package index."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module.split(".")[0])
    names -= set(sys.stdlib_module_names) | OUR_PACKAGES
    return {DISTRIBUTIONS.get(name, name).replace("_", "-") for name in names}


def files():
    return sorted(
        path.relative_to(ROOT)
        for folder in ("keras_dae", "export", "benchmarks", "tests", "docs")
        for path in (ROOT / folder).rglob("*.py")
    )


def test_requirements_are_parsed():
    assert names_in("numpy>=2\nray[data,serve]>=2.60  # a reason\n# none\ntensorflow_serving_api") == {
        "numpy",
        "ray",
        "tensorflow-serving-api",
    }


@pytest.mark.parametrize("file", files(), ids=str)
def test_imports_are_declared(file):
    extras = [extra for place, extra in EXTRAS.items() if file.is_relative_to(place)]
    known = declared({name for names in extras for name in names})
    assert imported(ROOT / file) - known - set(UNDECLARED) == set()


def test_inference_needs_no_more_than_its_requirements():
    needed = {name for pattern in INFERENCE for file in ROOT.glob(pattern) for name in imported(file)}
    available = names_in((ROOT / "requirements-inference.txt").read_text())
    assert needed - set(NOT_FOR_INFERENCE) <= available
    assert available <= declared()
