"""ONNX with 8-bit weights and activations: model.int8.onnx, less than a third of the float file's size."""

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx

from keras_dae._util.atomic import atomic_file
from keras_dae._util.environment import no_telemetry

with no_telemetry():
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

CALIBRATION_BATCH_SIZE = 32


def export_int8(float_path: str | os.PathLike, path: str | os.PathLike, noisy: np.ndarray) -> None:
    """Quantize a float ONNX file statically (QDQ), and write the result atomically.

    The interface is the same as that of `export_onnx`, in float32. The 8 bits are used inside.

    Args:
        float_path: the file that `export_onnx` wrote.
        path: the .onnx file to write.
        noisy: noisy images, like those that the network was trained on. They calibrate the ranges of the activations:
            float32 `(n, height, width, channels)` in [0, 1].

    Raises:
        UserError: the file cannot be written.

    Example::

        from export import export_int8, export_onnx

        export_onnx(model, "model.onnx")
        export_int8("model.onnx", "model.int8.onnx", noisy_training_images[:1000])
    """
    first = first_layer(onnx.load(os.fspath(float_path)).graph)
    with atomic_file(path) as temporary, without_advice():
        quantize_static(
            Path(float_path),
            temporary,
            CalibrationBatches(noisy),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=["Conv", "Relu"],
            nodes_to_exclude=[node.name for node in first],  # one input channel: faster in floats
        )
        onnx.checker.check_model(onnx.load(os.fspath(temporary)), full_check=True)


def first_layer(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Return the first convolution and the activation that reads it. The convolutions of the graph are a chain."""
    convolution = next(node for node in graph.node if node.op_type == "Conv")  # ONNX sorts the nodes
    return [convolution, *(node for node in graph.node if convolution.output[0] in node.input)]


@contextlib.contextmanager
def without_advice() -> Iterator[None]:
    """Drop onnxruntime's advice to preprocess the model, which would change nothing here.

    onnxruntime logs with the root logger. Its functions also give the root logger a handler if it has none, so it has
    one while the block lasts.
    """
    root, handler = logging.getLogger(), logging.NullHandler()
    root.addFilter(_is_not_advice)
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.removeFilter(_is_not_advice)


def _is_not_advice(record: logging.LogRecord) -> bool:
    return record.levelno > logging.WARNING or "onnxruntime" not in record.pathname


class CalibrationBatches(CalibrationDataReader):
    """Images in batches, in the form in which onnxruntime's calibration reads them."""

    def __init__(self, noisy: np.ndarray):
        starts = range(0, len(noisy), CALIBRATION_BATCH_SIZE)
        self.batches = (noisy[start : start + CALIBRATION_BATCH_SIZE] for start in starts)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next batch by the name of the model's input; None after the last one."""
        batch = next(self.batches, None)
        return None if batch is None else {"noisy": batch}
