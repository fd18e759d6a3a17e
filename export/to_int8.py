"""ONNX with 8-bit weights and activations: model.int8.onnx, a quarter of the size."""

import contextlib
import logging

import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from keras_dae._util.atomic import atomic_file
from keras_dae.networks.geometry import AUTOENCODER

CALIBRATION_BATCH = 32


def export_int8(float_path, path, noisy):
    """Quantize a float ONNX file statically (QDQ), whole or not at all.

    Args:
        float_path: the model.onnx that `export_onnx` wrote.
        path: the .onnx file to write.
        noisy: float32 `(n, height, width, channels)` in [0, 1], noisy training images that fix the ranges.

    Raises:
        UserError: the file cannot be written.
    """
    first = AUTOENCODER.layers[0].name
    with atomic_file(path) as temporary, _quiet():
        quantize_static(
            float_path,
            temporary,
            Batches(noisy),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=["Conv", "Relu"],
            nodes_to_exclude=[f"{first}/BiasAdd", f"{first}/Relu"],  # of one channel: faster in floats
        )
        onnx.checker.check_model(onnx.load(temporary), full_check=True)


@contextlib.contextmanager
def _quiet():
    """Hold back onnxruntime's advice, on the root logger, to prepare the model in a way that changes nothing here."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


class Batches(CalibrationDataReader):
    """Images, a batch at a time, as onnxruntime's calibration reads them."""

    def __init__(self, noisy):
        self.batches = (noisy[start : start + CALIBRATION_BATCH] for start in range(0, len(noisy), CALIBRATION_BATCH))

    def get_next(self):
        batch = next(self.batches, None)
        return None if batch is None else {"noisy": batch}
