"""Whether a training makes sense and its result is of use: its images, its warm-up, and the finished model."""

import dataclasses

import keras
import numpy as np

from keras_dae._util.batches import run_in_batches
from keras_dae.config import TrainConfig
from keras_dae.data.splits import DatasetSplits
from keras_dae.errors import UserError
from keras_dae.runs.metrics_file import ImageMetrics
from keras_dae.train.callbacks import ADVICE, MIN_VARIATION

MAX_WARMUP = 10  # the warm-up is at most one of so many parts of a training
MAX_AVERAGED = 20  # weights are averaged over at most one of so many parts of a training
MIN_AVERAGE = 0.01  # decay rate of the average in a training of few steps
MIN_RESPONSE = 1e-5  # largest difference between the outputs for an image and for its negative, in [0, 1]
WATCHED = 100  # images for which the negatives are denoised


def check_not_constant(dataset: DatasetSplits) -> None:
    """Raise `UserError` if all images have one and the same value in all pixels.

    Of a dataset that is read from files, the validation and test images are looked at.
    """
    arrays = [dataset.validation.clean, dataset.test.clean]
    if isinstance(dataset.train, np.ndarray):
        arrays.append(dataset.train)
    values = {value for array in arrays for value in (array.min().item(), array.max().item())}
    if len(values) == 1:
        looked_at = "all images" if isinstance(dataset.train, np.ndarray) else "all validation and test images"
        raise UserError(
            f"expected images that show something, got {dataset.name}, in which every pixel of {looked_at} is "
            f"{values.pop():g}; there is nothing to learn from them"
        )


def fitted_to_length(config: TrainConfig, steps: int) -> TrainConfig:
    """Return the config with a warm-up, and an averaging of weights, that are short enough for the training.

    The warm-up takes at most a MAX_WARMUP-th of it. The average forgets weights after 1 / (1 - rate) steps, which are
    at most a MAX_AVERAGED-th of it: longer, and the average would still hold the first, untrained weights.

    Args:
        config: `TrainConfig`.
        steps: training steps per epoch.
    """
    total = steps * config.epochs
    average = config.average and min(config.average, max(1 - MAX_AVERAGED / max(total, 1), MIN_AVERAGE))
    return dataclasses.replace(config, warmup_steps=min(config.warmup_steps, total // MAX_WARMUP), average=average)


def print_differences(asked: TrainConfig, fitted: TrainConfig, steps: int) -> None:
    """Print what `fitted_to_length` has changed, for a training of so many steps."""
    if fitted.warmup_steps != asked.warmup_steps:
        print(f"warm-up: {fitted.warmup_steps} steps, a tenth of the training's {steps}, not {asked.warmup_steps}")
    if fitted.average != asked.average:
        print(f"average of the weights: decay rate {fitted.average:.4g} for {steps} steps, not {asked.average:g}")


def check_responds(model: keras.Model, noisy: np.ndarray, denoised: np.ndarray) -> None:
    """Check that a model's output is finite, and that it depends on the input, however many images there are.

    Images of a small test set may be alike. So their negatives are denoised, too.

    Args:
        model: the trained network.
        noisy: float32 `(n, height, width, channels)` in [0, 1].
        denoised: what the model makes of them.

    Raises:
        UserError: an output is NaN or infinite, or no pixel differs by MIN_RESPONSE between an image and its negative.
    """
    if not np.isfinite(denoised).all():
        raise UserError(f"training diverged: the denoised test images hold NaN or infinity; {ADVICE}")
    negatives = run_in_batches(model.predict_on_batch, 1 - noisy[:WATCHED])
    response = np.abs(negatives - denoised[:WATCHED]).max()
    if not response >= MIN_RESPONSE:
        raise UserError(
            f"training collapsed: the output is the same for every input (a test image and its negative differ by at "
            f"most {response:.1g} after denoising, on the scale from 0 to 1); {ADVICE}"
        )


def problems(noisy: ImageMetrics, test: ImageMetrics, clean: np.ndarray, denoised: np.ndarray) -> tuple[str, ...]:
    """Return in sentences, without a full stop, why a model is of little use; () if nothing speaks against it.

    Args:
        noisy, test: measurements of the noisy and of the denoised test images.
        clean, denoised: the test images, float32 `(n, height, width, channels)`.
    """
    found = []
    if test.psnr < noisy.psnr or test.mse > noisy.mse:
        found.append(
            f"The denoised test images are worse than the noisy ones: PSNR {test.psnr:.2f} dB instead of "
            f"{noisy.psnr:.2f} dB, MSE {test.mse:.5f} instead of {noisy.mse:.5f}"
        )
    expected, got = clean.std(axis=0).mean(), denoised.std(axis=0).mean()
    if got < MIN_VARIATION * expected:
        found.append(
            f"The denoised test images are nearly the same (standard deviation across images {got:.2g}, across the "
            f"clean images {expected:.2g}): the training was too short, or its learning rate was wrong"
        )
    return tuple(found)
