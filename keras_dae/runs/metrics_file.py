"""The file metrics.json of a run: how well the trained model does on its own test images."""

import os
from dataclasses import asdict, dataclass
from typing import Any, Self

from keras_dae._util.json_files import expecting, read_json, write_json
from keras_dae.runs.noise_setting import NoiseSetting


@dataclass(frozen=True)
class ImageMetrics:
    """Means over the test images: `mse`, `psnr` in dB, `ssim`; see `keras_dae.metrics`."""

    mse: float
    psnr: float
    ssim: float


@dataclass(frozen=True)
class RunMetrics:
    """The measurements that end a training.

    Attributes:
        dataset: name of the images.
        dataset_sha256: of the images' content.
        images: number of test images.
        patches: number of patches of these images; None if whole images were measured.
        noise: of the test images; the training had the same.
        clip: whether the noisy images were clipped to [0, 1].
        test: of the denoised images.
        noisy: of the noisy images.
        median: of the noisy images after a 3×3 median.
        parameters: number of the network's weights.
        epochs: number of epochs trained.
        training_seconds: of all epochs together.
        problems: sentences, without a full stop, that say why the model is of little use; none is the normal case.
    """

    dataset: str
    dataset_sha256: str
    images: int
    patches: int | None
    noise: NoiseSetting
    clip: bool
    test: ImageMetrics
    noisy: ImageMetrics
    median: ImageMetrics
    parameters: int
    epochs: int
    training_seconds: float
    problems: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Return the measurements in a JSON object."""
        return cls(
            dataset=values["dataset"],
            dataset_sha256=values["dataset_sha256"],
            images=values["images"],
            patches=values.get("patches"),
            noise=NoiseSetting.from_dict(values),
            clip=values["clip"],
            **{name: ImageMetrics(**values[name]) for name in ("test", "noisy", "median")},
            parameters=values["parameters"],
            epochs=values["epochs"],
            training_seconds=values["training_seconds"],
            problems=tuple(values.get("problems", ())),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object that `from_dict` reads."""
        return {
            "dataset": self.dataset,
            "dataset_sha256": self.dataset_sha256,
            "images": self.images,
            **({} if self.patches is None else {"patches": self.patches}),
            **self.noise.to_dict(),
            "clip": self.clip,
            "test": asdict(self.test),
            "noisy": asdict(self.noisy),
            "median": asdict(self.median),
            "parameters": self.parameters,
            "epochs": self.epochs,
            "training_seconds": self.training_seconds,
            "problems": list(self.problems),
        }


def read_metrics(path: str | os.PathLike) -> RunMetrics:
    """Return the measurements in a metrics.json.

    Raises:
        UserError: the file is missing, or its content is not as `write_metrics` writes it.
    """
    values = read_json(path)
    with expecting(path):
        return RunMetrics.from_dict(values)


def write_metrics(path: str | os.PathLike, metrics: RunMetrics) -> None:
    """Write a metrics.json atomically. Raises `UserError` if it cannot be written."""
    write_json(path, metrics.to_dict())
