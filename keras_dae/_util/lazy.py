"""Public names of a package that are imported on first use."""

import importlib
import sys


def lazy_names(package, module_of):
    """Return `(__getattr__, __dir__)` for a package whose public names live in its modules.

    Args:
        package: the package's `__name__`.
        module_of: public name -> module of the package that defines it.
    """

    def get(name):
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{module_of[name]}"), name)

    return get, lambda: sys.modules[package].__all__
