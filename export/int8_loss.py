"""Quantize a run's ONNX file, and measure how much PSNR the 8-bit model loses on noisy test images."""

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from export.parity.cases import parity_inputs
from export.parity.check import TOLERANCE, int8_cases, rms
from keras_dae._util.batches import run_in_batches
from keras_dae._util.environment import no_telemetry
from keras_dae.config import TrainConfig
from keras_dae.data.load import load_dataset
from keras_dae.data.patches import PatchStream
from keras_dae.data.splits import DatasetSplits, EvaluationImages
from keras_dae.errors import UserError

CALIBRATION_BATCHES = 8  # of noisy training images, which fix the ranges of the activations
MAX_INT8_LOSS = 0.1  # dB of PSNR


@dataclass(frozen=True)
class Int8Loss:
    """What 8 bits cost. These fields are stored in parity.json.

    Attributes:
        psnr_db: PSNR of the 8-bit model, in dB.
        psnr_lost_db: by how many dB that is less than the float model's PSNR.
        test_images: how many images were measured.
        bytes: size of the 8-bit file.
        rms_error_to_float: largest root mean square difference between the outputs of the two models, for a batch of
            digits of the parity check, on the [0, 1] scale.
    """

    psnr_db: float
    psnr_lost_db: float
    test_images: int
    bytes: int
    rms_error_to_float: float

    @property
    def is_too_high(self) -> bool:
        """Whether the 8-bit model loses more than MAX_INT8_LOSS."""
        return self.psnr_lost_db > MAX_INT8_LOSS

    @property
    def parity_tolerance(self) -> float:
        """The root mean square error that the 8-bit model may have against Keras on the digits of the parity check.

        The float model may differ from Keras by TOLERANCE, and the 8-bit model differs from the float model as
        measured. The sum bounds the difference to Keras (triangle inequality).
        """
        return self.rms_error_to_float + TOLERANCE


def quantize_and_measure(
    float_path: Path, int8_path: Path, channels: int, config: TrainConfig | None, dataset: DatasetSplits | None
) -> Int8Loss:
    """Write the 8-bit ONNX file, calibrated on noisy training images, and measure it on noisy test images.

    Args:
        float_path: the file that `export_onnx` wrote.
        int8_path: the file to write.
        channels: of the model's images.
        config: what the run was trained with; None for the built-in digits.
        dataset: the images; None to load those that `config` names.

    Raises:
        UserError: the images cannot be loaded or have another number of channels, or the file cannot be written.
    """
    from export.to_int8 import export_int8

    config = config or TrainConfig(dataset="digits")
    if channels != config.channels:
        raise UserError(
            f"expected images of {channels} channels for int8, got {config.channels}; leave int8 out of --formats"
        )
    dataset = dataset or load_dataset(config)
    export_int8(float_path, int8_path, calibration_images(dataset.train, config))
    return measure_int8_loss(float_path, int8_path, dataset.test, config)


def calibration_images(training_images: np.ndarray | PatchStream, config: TrainConfig) -> np.ndarray:
    """Return noisy training images: float32 `(n, height, width, channels)`, in [0, 1] if the noise is clipped.

    They are CALIBRATION_BATCHES batches of the size that is the recipe's default, or of all images if there are fewer.
    The options `--batch-size` and `--epochs` of the run have no effect.

    Args:
        training_images: the training images of a dataset.
        config: says which noise is added.
    """
    from keras_dae.data.batches import training_batches

    batch_size = TrainConfig.from_recipe(config.recipe).batch_size
    epochs = max(config.epochs, CALIBRATION_BATCHES)  # each has at least one batch
    config = dataclasses.replace(config, batch_size=batch_size, epochs=epochs)
    batches = training_batches(training_images, config).take(CALIBRATION_BATCHES)
    return np.concatenate([batch.numpy() for batch, _ in batches])


def measure_int8_loss(
    float_path: Path, int8_path: Path, test_images: EvaluationImages, config: TrainConfig
) -> Int8Loss:
    """Run both ONNX files on the same noisy test images and compare their PSNR.

    Args:
        float_path: the file that `export_onnx` wrote.
        int8_path: the file that `export_int8` wrote.
        test_images: the test images of a dataset.
        config: says which noise is added.
    """
    from keras_dae.data.batches import evaluation_images
    from keras_dae.metrics import mean_metrics

    with no_telemetry():
        import onnxruntime

    float_model, int8_model = (
        onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]) for path in (float_path, int8_path)
    )

    def run(session, noisy):
        return run_in_batches(lambda batch: session.run(None, {"noisy": batch})[0], noisy)

    noisy, clean = evaluation_images(test_images, config)
    float_psnr, int8_psnr = (
        mean_metrics(clean, run(session, noisy), test_images.image_index)["psnr"]
        for session in (float_model, int8_model)
    )
    digits = int8_cases(parity_inputs(clean.shape[-1]))
    errors = [rms(run(int8_model, batch) - run(float_model, batch)) for batch in digits.values()]
    return Int8Loss(
        psnr_db=int8_psnr,
        psnr_lost_db=float_psnr - int8_psnr,
        test_images=test_images.image_count,
        bytes=os.path.getsize(int8_path),
        rms_error_to_float=max(errors),
    )
