"""Export a trained denoiser to other programs, and verify that it computes the same there.

Public names load on first use, so that `import export` imports neither TensorFlow nor onnxruntime.
"""

from typing import TYPE_CHECKING

from keras_dae._util.lazy import lazy_names

if TYPE_CHECKING:
    from export.parity.check import verify as verify
    from export.run import export_run as export_run
    from export.to_hub import export_hub as export_hub
    from export.to_int8 import export_int8 as export_int8
    from export.to_litert import export_litert as export_litert
    from export.to_onnx import export_onnx as export_onnx
    from export.to_saved_model import export_saved_model as export_saved_model

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
