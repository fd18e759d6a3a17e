"""The examples in docstrings are run."""

import doctest
import importlib
import pkgutil

import pytest

import export
import keras_dae


def modules():
    """Return the names of all modules of both packages, without the commands (`__main__`)."""
    found = [
        module.name
        for package in (keras_dae, export)
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    ]
    return [name for name in found if not name.endswith("__main__") and ".saved_models" not in name]


@pytest.mark.parametrize("name", modules())
def test_examples(name):
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        if error.name in ("ray", "pyarrow", "starlette"):
            pytest.skip(f"{error.name} is not installed: pip install -e '.[ray]'")
        raise
    assert doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE).failed == 0


def test_examples_are_found():
    attempted = {
        name: doctest.testmod(importlib.import_module(name)).attempted for name in ("keras_dae.networks.geometry",)
    }
    assert all(attempted.values())
