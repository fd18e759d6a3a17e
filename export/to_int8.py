"""ONNX with 8-bit weights and activations: model.int8.onnx, which is smaller and faster."""

import contextlib
import io
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from keras_dae._util.atomic import atomic_file
from keras_dae._util.environment import no_telemetry

with no_telemetry():
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )

CALIBRATION_BATCH_SIZE = 32
MAX_PERCENT_PIXELS = 2**20  # that calibrate ranges by percent: onnxruntime keeps all activations in memory


@dataclass(frozen=True)
class Quantization:
    """Which layers of a network get 8 bits, and for which range.

    Attributes:
        outer_floats: how many of the first convolutions, and as many of the last, stay in floats. The first one always
            does: with one input channel, it is faster so.
        percent: the range of an activation holds so many percent of its values; half of the others lie on each side.
            None for the range of all values.
    """

    outer_floats: int = 0
    percent: float | None = None


# unet: one range must hold what all noise levels cause, and a weak noise is a small part of it. So the layers at half
# the resolution stay in floats, and ranges leave out extremes.
QUANTIZATIONS = {"unet": Quantization(outer_floats=3, percent=99.99)}


def export_int8(float_path: str | os.PathLike, path: str | os.PathLike, noisy: np.ndarray) -> None:
    """Quantize a float ONNX file statically (QDQ), and write the result atomically.

    The interface is the same as that of `export_onnx`, in float32. The 8 bits are used inside.

    Args:
        float_path: the file that `export_onnx` wrote.
        path: the .onnx file to write.
        noisy: noisy images, like those that the network was trained on. They calibrate the ranges of the activations:
            float32 `(n, height, width, channels)`. If they are more than 32, a multiple of 32 is used.

    Raises:
        UserError: the file cannot be written.

    Example::

        from export import export_int8, export_onnx

        export_onnx(model, "model.onnx")
        export_int8("model.onnx", "model.int8.onnx", noisy_training_images[:1000])
    """
    model = onnx.load(os.fspath(float_path))
    network = {prop.key: prop.value for prop in model.metadata_props}.get("network", "autoencoder")
    quantization = QUANTIZATIONS.get(network, Quantization())
    floats = float_layers(model.graph, quantization.outer_floats)
    method, options = CalibrationMethod.MinMax, {}
    if quantization.percent is not None:
        method, options = CalibrationMethod.Percentile, {"CalibPercentile": quantization.percent}
        noisy = noisy[: max(1, MAX_PERCENT_PIXELS // (noisy.shape[1] * noisy.shape[2]))]
    # onnxruntime prints the progress of a calibration by percent.
    with atomic_file(path) as temporary, without_advice(), contextlib.redirect_stdout(io.StringIO()):
        quantize_static(
            Path(float_path),
            temporary,
            CalibrationBatches(noisy),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=["Conv", "Relu"],
            nodes_to_exclude=[node.name for node in floats],
            calibrate_method=method,
            extra_options=options,
        )
        onnx.checker.check_model(onnx.load(os.fspath(temporary)), full_check=True)


def float_layers(graph: onnx.GraphProto, outer: int) -> list[onnx.NodeProto]:
    """Return the first convolution, the `outer` first and last ones, and the activations that read them."""
    convolutions = [node for node in graph.node if node.op_type == "Conv"]  # ONNX sorts the nodes
    chosen = convolutions[: max(1, outer)] + convolutions[len(convolutions) - outer :]
    outputs = {node.output[0] for node in chosen}
    return chosen + [node for node in graph.node if node.op_type == "Relu" and node.input[0] in outputs]


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
    """Images in batches of one size, in the form in which onnxruntime's calibration reads them."""

    def __init__(self, noisy: np.ndarray):
        if len(noisy) > CALIBRATION_BATCH_SIZE:  # the calibration by percent takes no smaller last batch
            noisy = noisy[: len(noisy) // CALIBRATION_BATCH_SIZE * CALIBRATION_BATCH_SIZE]
        starts = range(0, len(noisy), CALIBRATION_BATCH_SIZE)
        self.batches = (noisy[start : start + CALIBRATION_BATCH_SIZE] for start in starts)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next batch by the name of the model's input; None after the last one."""
        batch = next(self.batches, None)
        return None if batch is None else {"noisy": batch}
