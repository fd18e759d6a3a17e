"""What images a model was trained on, as its file says; and whether an image is unlike those."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

from keras_dae.images.unit_range import type_white
from keras_dae.noise_names import describe_noise

MAX_SIZE_RATIO = 1.5  # of a side, to that of the training images or the other way round; beyond it, an image is unlike
# It is also unlike them if more than SHARE of its pixels are brighter than the brightest, or darker than the darkest
# training image by more than MARGIN. Noise alone does not have that effect on the digits that the shipped models know.
SHARE, MARGIN = 0.6, 0.4
# Built-in data sets of whole images, for models whose file says only the name: what they show, their height and width,
# and the brightness of the darkest and the brightest image, see `keras_dae.images.brightness`.
BUILT_IN = {
    "mnist": ("handwritten digits", (28, 28), (0.0, 0.0)),
    "digits": ("digits", (28, 28), (0.0, 0.0)),
    "fashion_mnist": ("clothing", (28, 28), None),
}


class UnlikeTrainingImages(UserWarning):
    """An image is unlike the images that the model was trained on, so that the result may be poor."""


@dataclass(frozen=True)
class TrainedOn:
    """What images a model was trained on.

    Attributes:
        dataset: its name; empty if the model's file does not say it.
        noise: in words, such as `gaussian noise 0.5`.
        channels: 1 (grey) or 3 (RGB).
        size: `(height, width)` in pixels; None for patches of larger images, or if it is unknown.
        brightness: the lowest and the highest brightness of a training image, in [0, 1]; None if it is unknown.
        clip: whether the noisy images were clipped to [0, 1].
    """

    dataset: str
    noise: str
    channels: int
    size: tuple[int, int] | None
    brightness: tuple[float, float] | None
    clip: bool

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], channels: int) -> Self:
        """Return what the `metadata_props` of an ONNX file say. What is missing or cannot be read is unknown.

        Example:
            >>> TrainedOn.from_metadata({"dataset": "mnist", "noise": "gaussian", "noise_factor": "0.5"}, 1).describe()
            'the model was trained on 28×28 grey images of handwritten digits (mnist) with gaussian noise 0.5'
        """
        dataset = metadata.get("dataset", "")
        noise = [name for name in metadata.get("noise", "").split(", ") if name]
        _, size, brightness = BUILT_IN.get(dataset, ("", None, None))
        if "image_size" in metadata:  # a file that says everything
            size = _pair(metadata["image_size"], "×", int)
            brightness = _pair(metadata.get("brightness", ""), " to ", float)
        clip = metadata.get("clip") != "false"
        described = describe_noise(noise, metadata.get("noise_factor", ""), clip) if noise else ""
        return cls(dataset, described, channels, size, brightness, clip)

    def describe(self) -> str:
        """Return it in words, without a full stop."""
        size = "{}×{} ".format(*self.size) if self.size else ""
        subject = f" of {BUILT_IN[self.dataset][0]}" if self.dataset in BUILT_IN else ""
        noise = f" with {self.noise}" if self.noise else ""
        images = f"{'grey' if self.channels == 1 else 'colour'} images{subject} ({self.dataset}){noise}"
        return f"the model was trained on {size}{images}"

    def differences(self, images: np.ndarray, white: int | float) -> list[str]:
        """Return for each image how it differs from all training images, in one word; an empty string if it does not.

        Args:
            images: noisy images `(n, height, width, channels)` without alpha.
            white: the value that stands for 1.

        Example:
            >>> digits = TrainedOn.from_metadata({"dataset": "mnist"}, 1)
            >>> digits.differences(np.zeros((1, 400, 600, 1), np.uint8), 255)
            ['larger']
            >>> digits.differences(np.array([0, 200], np.uint8).reshape(2, 1, 1, 1).repeat(28, 1).repeat(28, 2), 255)
            ['', 'brighter']
        """
        if self.size:
            ratios = [side / trained for side, trained in zip(images.shape[1:3], self.size)]
            if max(ratios) > MAX_SIZE_RATIO:
                return ["larger"] * len(images)
            if min(ratios) < 1 / MAX_SIZE_RATIO:
                return ["smaller"] * len(images)
        words = [""] * len(images)
        if self.size and self.brightness:
            low, high = self.brightness
            for word, differs in (
                ("brighter", images > _as_type((high + MARGIN) * white, images.dtype)),
                ("darker", images < _as_type((low - MARGIN) * white, images.dtype)),
            ):
                for index in np.flatnonzero(differs.mean(axis=(1, 2, 3)) > SHARE):
                    words[index] = word
        return words


def _as_type(threshold: float, dtype: np.dtype) -> float:
    """Return a threshold so that comparing integers with it converts none of them."""
    return threshold if dtype.kind == "f" else int(np.clip(threshold, 0, type_white(dtype)))


def _pair(text: str, separator: str, kind: type) -> tuple | None:
    """Return the two numbers in a text, or None if it holds something else."""
    try:
        first, second = map(kind, text.split(separator))
    except ValueError:
        return None
    return first, second
