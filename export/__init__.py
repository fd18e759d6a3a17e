"""Export a trained denoiser to other people's software, and prove that it computes the same there.

Public names load on first use: `import export` imports neither TensorFlow nor onnxruntime.
"""

import importlib

_MODULE_OF = {
    "export_int8": "to_int8",
    "export_onnx": "to_onnx",
    "export_run": "run",
    "export_saved_model": "to_saved_model",
    "verify": "parity",
}
__all__ = sorted(_MODULE_OF)


def __getattr__(name):
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__():
    return __all__
