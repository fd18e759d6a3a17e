"""Export a trained denoiser to other people's software, and prove that it computes the same there.

Public names load on first use: `import export` imports neither TensorFlow nor onnxruntime.
"""

from keras_dae._util.lazy import lazy_names

_MODULE_OF = {
    "export_hub": "to_hub",
    "export_int8": "to_int8",
    "export_litert": "to_litert",
    "export_onnx": "to_onnx",
    "export_run": "run",
    "export_saved_model": "to_saved_model",
    "verify": "parity.check",
}
__all__ = sorted(_MODULE_OF)
__getattr__, __dir__ = lazy_names(__name__, _MODULE_OF)
