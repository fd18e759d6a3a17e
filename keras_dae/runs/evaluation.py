"""The results of an evaluation, and the file evaluation.json that holds them."""

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from keras_dae._util.json_files import expecting, read_json, write_json
from keras_dae.noise_names import describe_noise
from keras_dae.runs.noise_setting import NoiseSetting, factors_from_json, factors_to_json

# Fields of `ContenderResult` that only one kind of contender has; the file omits them for the others.
FIELDS_OF_KIND = {"parameters": "classical", "run": "model", "backend": "model", "trained_for_this": "model"}


@dataclass(frozen=True)
class Interval:
    """A mean over images with its confidence interval; `low` and `high` are None for a single image."""

    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class ContenderResult:
    """How well one contender did at one noise level.

    Attributes:
        name: as shown in tables.
        kind: `noisy` (the noisy images themselves), `classical` (a method without training) or `model`.
        mse, psnr, ssim: means over the images; PSNR is in dB.
        made_worse: number of images whose PSNR is lower than that of the noisy image.
        parameters: of a classical method, name -> value.
        run: of a model: the run's name, a key of `Evaluation.trained_for`.
        backend: of a model: a name of `keras_dae.evaluate.loaders.BACKENDS`.
        trained_for_this: of a model: whether it was trained for this noise; None if that is unknown.
    """

    name: str
    kind: Literal["noisy", "classical", "model"]
    mse: Interval
    psnr: Interval
    ssim: Interval
    made_worse: int
    parameters: Mapping[str, float] | None = None
    run: str | None = None
    backend: str | None = None
    trained_for_this: bool | None = None

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Return the result in a JSON object."""
        fields: dict[str, Any] = {metric: Interval(**values[metric]) for metric in ("mse", "psnr", "ssim")}
        names = ["name", "kind", "made_worse", *(n for n, kind in FIELDS_OF_KIND.items() if kind == values["kind"])]
        return cls(**fields, **{name: values[name] for name in names})

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object that `from_dict` reads."""
        values = dataclasses.asdict(self).items()
        return {name: value for name, value in values if FIELDS_OF_KIND.get(name, self.kind) == self.kind}


@dataclass(frozen=True)
class NoiseLevel:
    """All results at one noise level.

    Attributes:
        noise_factor: one factor, or the lowest and the highest one; None for real noise.
        results: the noisy images first, then the classical methods, then the models; the same order at every level.
    """

    noise_factor: tuple[float, ...] | None
    results: tuple[ContenderResult, ...]

    @property
    def noisy(self) -> ContenderResult:
        """The result of the noisy images themselves."""
        return self.results[0]

    @property
    def best_classical(self) -> ContenderResult:
        """The result of the classical method with the highest mean PSNR."""
        return max((r for r in self.results if r.kind == "classical"), key=lambda result: result.psnr.mean)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Return the level in a JSON object."""
        results = tuple(map(ContenderResult.from_dict, values["results"]))
        return cls(factors_from_json(values["noise_factor"]), results)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object that `from_dict` reads."""
        results = [result.to_dict() for result in self.results]
        return {"noise_factor": factors_to_json(self.noise_factor), "results": results}


@dataclass(frozen=True)
class Evaluation:
    """What `keras_dae.evaluate.measure.evaluate` measured.

    Attributes:
        dataset: name of the images.
        dataset_sha256: of the images' content.
        images: number of test images.
        patches: number of patches of these images; None if whole images were measured.
        noise: names of the noise models, or REAL_PAIRS, see `NoiseSetting`.
        clip: whether the noisy images were clipped to [0, 1].
        confidence: of the intervals, in (0, 1).
        trained_for: run -> the noise that it was trained for; None if that is unknown.
        levels: at least one.
    """

    dataset: str
    dataset_sha256: str
    images: int
    patches: int | None
    noise: tuple[str, ...]
    clip: bool
    confidence: float
    trained_for: Mapping[str, NoiseSetting | None]
    levels: tuple[NoiseLevel, ...]

    @property
    def described_noise(self) -> str:
        """The noise in words, without its level."""
        return describe_noise(self.noise, clip=self.clip)

    @property
    def contenders(self) -> list[tuple[ContenderResult, ...]]:
        """The results of each contender, one a level."""
        return list(zip(*(level.results for level in self.levels)))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Return the evaluation in a JSON object."""
        return cls(
            dataset=values["dataset"],
            dataset_sha256=values["dataset_sha256"],
            images=values["images"],
            patches=values.get("patches"),
            noise=tuple(values["noise"]),
            clip=values["clip"],
            confidence=values["confidence"],
            trained_for={
                run: None if noise is None else NoiseSetting.from_dict(noise)
                for run, noise in values["trained_for"].items()
            },
            levels=tuple(map(NoiseLevel.from_dict, values["levels"])),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object that `from_dict` reads."""
        return {
            "dataset": self.dataset,
            "dataset_sha256": self.dataset_sha256,
            "images": self.images,
            **({} if self.patches is None else {"patches": self.patches}),
            "noise": list(self.noise),
            "clip": self.clip,
            "confidence": self.confidence,
            "trained_for": {run: noise and noise.to_dict() for run, noise in self.trained_for.items()},
            "levels": [level.to_dict() for level in self.levels],
        }


def read_evaluation(path: str | os.PathLike) -> Evaluation:
    """Return the evaluation in an evaluation.json.

    Raises:
        UserError: the file is missing, or its content is not as `write_evaluation_json` writes it.
    """
    values = read_json(path)
    with expecting(path):
        return Evaluation.from_dict(values)


def write_evaluation_json(path: str | os.PathLike, evaluation: Evaluation) -> None:
    """Write an evaluation.json atomically. Raises `UserError` if it cannot be written."""
    write_json(path, evaluation.to_dict())
