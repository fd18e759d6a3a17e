"""TrainConfig: all options of a training run, with their defaults; and the recipes."""

import dataclasses
import numbers
import os
import types
import typing
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from keras_dae.errors import UserError
from keras_dae.networks import NETWORKS
from keras_dae.networks.geometry import Grid
from keras_dae.networks.initializers import INITIALIZATIONS
from keras_dae.noise_names import check_noise

# Names that options accept.
DATASETS = ("auto", "mnist", "fashion_mnist", "digits")
SCHEDULES = ("constant", "cosine")
LOSSES = ("mse", "l1")
WHITES = ("auto", "type")
SPLITS = ("hash", "count")
SSIM_WINDOW = 11  # pixels: the smallest height and width that SSIM is defined for, see `keras_dae.metrics.ssim`
# Fields that only say where data is stored, and do not change what is computed.
LOCATION_FIELDS = ("data_dir",)
PATH_FIELDS = ("dataset", "data_dir", "noisy_dir", "clean_dir")


@dataclass(frozen=True)
class TrainConfig:
    """All options of a training run.

    Attributes:
        recipe: name of the recipe that the values come from; it is only recorded.
        network: a name of `keras_dae.networks.NETWORKS`.
        dataset: `auto` (MNIST, or else the built-in digits), `mnist`, `fashion_mnist`, `digits`, or the path of a
            folder of images or of an .npz or .npy file.
        data_dir: folder in which `mnist` and `fashion_mnist` are looked for first; None for the usual places.
        noisy_dir: folder of real noisy images, to be matched by name with those in `clean_dir`. Real pairs replace
            `dataset`. Either both folders are given or neither.
        clean_dir: folder of the clean images.
        channels: 1 (grey) or 3 (RGB).
        white: the integer that becomes 1 in 16-bit images. `auto` measures it: if no image uses the upper half of the
            range, it is 2ⁿ − 1, see `keras_dae.images.unit_range.range_white`. `type` is 65535.
        split: how the images of a folder are divided. With `hash`, each file's content decides, so that the folder may
            grow. `count` is the rule of keras_dae 0.1.0, which depends on the number of files.
        patch_size: height and width of a patch in pixels, a size that the network takes (see
            `keras_dae.networks.geometry`). Data sets of small images of one size are used whole, others are cut into
            patches. None chooses a size that fits the images.
        patches_per_image: maximum number of patches that an epoch takes from an image.
        limit: maximum number of training images, and of test images; None for all.
        validation_split: held-out fraction of the training images, in (0, 1).
        noise: names of noise models, see `keras_dae.noise.add_noise`.
        noise_factor: noise level, one number or a low and a high one, see `keras_dae.noise.add_noise`.
        clip: whether noisy images are clipped to [0, 1].
        flips: whether each training image, or patch, is turned and mirrored at random: one of its 8 positions, or of
            the 4 that keep the shape if it is not square. It is for images that may be seen from any side.
        scales: factors from (0, 4]; in each epoch, each training image is resized by one of them before patches are cut
            from it. Enlarged images are soft, as many photographs are at full size. Whole images and real pairs, whose
            noise would change, keep their size.
        batch_size: images, or patches, per step.
        epochs: passes over the training images.
        learning_rate: peak of Adam's learning rate.
        beta_1: Adam's decay rate of the first moments, in [0, 1).
        beta_2: Adam's decay rate of the second moments, in [0, 1).
        schedule: of the learning rate: `constant`, or `cosine` decay to 0 at the end.
        loss: the mean of the squared errors, `mse`, or of the absolute errors, `l1`.
        clip_norm: the largest norm of all gradients of a step together; larger ones are scaled down. With several
            devices, it is the limit for the part of each. None for no limit.
        average: decay rate of an exponential moving average of the weights, in (0, 1). The average is validated, kept
            and exported instead of the weights of the last step. None for no average.
        warmup_steps: steps over which the learning rate first rises linearly from 0.
        initialization: of the weights: `torch` or `he`, see
            `keras_dae.networks.initializers.initializers`.
        early_stopping: epochs without a lower validation loss after which training stops, and the best weights are
            kept; None to train for all epochs.
        seed: fixes the initial weights, the split, the order and the training noise. The evaluation noise does not
            depend on it.

    Raises:
        UserError: a value has another type or is out of its range.

    Example:
        >>> TrainConfig(noise="speckle", noise_factor=0.2).noise_factor
        (0.2,)
        >>> TrainConfig.from_recipe("quick", epochs=2).learning_rate
        0.008
    """

    recipe: str = "seed"
    network: str = "autoencoder"
    dataset: str = "auto"
    data_dir: str | None = None
    noisy_dir: str | None = None
    clean_dir: str | None = None
    channels: int = 1
    white: str | int = "auto"
    split: str = "hash"
    patch_size: int | None = None
    patches_per_image: int = 16
    limit: int | None = None
    validation_split: float = 0.05
    noise: tuple[str, ...] = ("gaussian",)
    noise_factor: tuple[float, ...] = (0.5,)
    clip: bool = True
    flips: bool = False
    scales: tuple[float, ...] = (1.0,)
    batch_size: int = 100
    epochs: int = 5
    learning_rate: float = 0.001
    beta_1: float = 0.9
    beta_2: float = 0.999
    schedule: str = "constant"
    warmup_steps: int = 0
    loss: str = "mse"
    clip_norm: float | None = None
    average: float | None = None
    initialization: str = "torch"
    early_stopping: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if isinstance(value := getattr(self, field.name), np.generic):  # JSON has no such types
                object.__setattr__(self, field.name, value.item())
            if not _has_type(getattr(self, field.name), field.type):
                raise UserError(
                    f"expected {field.name} to be {getattr(field.type, '__name__', field.type)}, "
                    f"got {getattr(self, field.name)!r}"
                )
        try:
            noise, factors = check_noise(self.noise, self.noise_factor)
        except (ValueError, TypeError) as error:
            raise UserError(f"noise or noise_factor: {error}" if isinstance(error, TypeError) else str(error)) from None
        object.__setattr__(self, "noise", noise)
        object.__setattr__(self, "scales", _numbers(self.scales))
        object.__setattr__(self, "noise_factor", factors)
        for name, expected, is_valid in (
            *((name, "a path that is not empty", getattr(self, name) != "") for name in PATH_FIELDS),
            ("recipe", f"one of {', '.join(RECIPES)}", self.recipe in RECIPES),
            ("network", f"one of {', '.join(NETWORKS)}", self.network in NETWORKS),
            ("channels", "1 or 3", self.channels in (1, 3)),
            (
                "white",
                f"{', '.join(WHITES)}, or a number from 1 to 65535",
                self.white in WHITES if isinstance(self.white, str) else 1 <= self.white <= 65535,
            ),
            ("split", f"one of {', '.join(SPLITS)}", self.split in SPLITS),
            ("patches_per_image", "at least 1", self.patches_per_image >= 1),
            ("limit", "at least 4", _none_or(self.limit, lambda n: n >= 4)),
            ("validation_split", "between 0 and 1", 0 < self.validation_split < 1),
            ("batch_size", "at least 1", self.batch_size >= 1),
            ("epochs", "at least 1", self.epochs >= 1),
            ("learning_rate", "a positive number", 0 < self.learning_rate < float("inf")),
            ("beta_1", "in [0, 1)", 0 <= self.beta_1 < 1),
            ("beta_2", "in [0, 1)", 0 <= self.beta_2 < 1),
            ("schedule", f"one of {', '.join(SCHEDULES)}", self.schedule in SCHEDULES),
            ("warmup_steps", "at least 0", self.warmup_steps >= 0),
            ("loss", f"one of {', '.join(LOSSES)}", self.loss in LOSSES),
            ("clip_norm", "a positive number", _none_or(self.clip_norm, lambda norm: 0 < norm < float("inf"))),
            ("average", "between 0 and 1", _none_or(self.average, lambda rate: 0 < rate < 1)),
            ("scales", "numbers in (0, 4]", bool(self.scales) and all(0 < scale <= 4 for scale in self.scales)),
            ("initialization", f"one of {', '.join(INITIALIZATIONS)}", self.initialization in INITIALIZATIONS),
            ("early_stopping", "at least 1", _none_or(self.early_stopping, lambda n: n >= 1)),
            ("seed", "in 0 ... 2147483647", 0 <= self.seed < 2**31),
        ):
            if not is_valid:
                raise UserError(f"expected {name} to be {expected}, got {getattr(self, name)!r}")
        grid, smallest = self.grid, min_patch_size(self.grid)
        if not _none_or(self.patch_size, lambda size: size >= smallest and grid.padded_size(size) == size):
            raise UserError(
                f"expected patch_size to be a multiple of {grid.multiple}, at least {smallest}, for the network "
                f"{self.network}, got {self.patch_size!r}"
            )
        if (self.noisy_dir is None) != (self.clean_dir is None):
            raise UserError("expected --noisy-dir and --clean-dir together, got only one of them")

    @property
    def grid(self) -> Grid:
        """The sizes that fit the network."""
        return NETWORKS[self.network].geometry.grid

    @property
    def has_pairs(self) -> bool:
        """Whether the noisy images are real. If not, noise is added to clean images."""
        return self.noisy_dir is not None

    @property
    def places(self) -> tuple[str, ...]:
        """The name of the dataset, or the real paths of the file or the folders that the images are in."""
        places = (self.noisy_dir, self.clean_dir) if self.noisy_dir and self.clean_dir else (self.dataset,)
        return tuple(place if place in DATASETS else os.path.realpath(place) for place in places)

    @classmethod
    def from_recipe(cls, recipe: str = "seed", **overrides: Any) -> Self:
        """Return a recipe's config, with the fields in `overrides` replaced.

        Raises:
            UserError: there is no such recipe, or a value is out of its range.
        """
        if recipe not in RECIPES:
            raise UserError(f"expected recipe to be one of {', '.join(RECIPES)}, got {recipe!r}")
        return cls(**{"recipe": recipe, **RECIPES[recipe], **overrides})

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Return the config from the values that `to_dict` returned.

        Raises:
            UserError: a field is unknown, or a value is out of its range.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(values) - known):
            raise UserError(
                f"expected the fields of TrainConfig, got also {', '.join(unknown)}: a newer version's file?"
            )
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as values that JSON can store."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in dataclasses.asdict(self).items()}

    def with_absolute_paths(self) -> Self:
        """Return the config with the PATH_FIELDS made absolute, so that it does not depend on the current folder."""
        paths = {name: getattr(self, name) for name in PATH_FIELDS}
        absolute = {name: os.path.abspath(path) for name, path in paths.items() if path and path not in DATASETS}
        return dataclasses.replace(self, **absolute)

    def differences(self, other: "TrainConfig") -> list[str]:
        """Return the names of the fields that differ, except for LOCATION_FIELDS."""
        first, second = self.with_absolute_paths(), other.with_absolute_paths()
        names = [field.name for field in dataclasses.fields(self) if field.name not in LOCATION_FIELDS]
        return [name for name in names if getattr(first, name) != getattr(second, name)]


def min_patch_size(grid: Grid) -> int:
    """Return the smallest patch size, in pixels: a size of the network's grid in which SSIM's window has room."""
    return grid.padded_size(SSIM_WINDOW)


def _numbers(values: Any) -> tuple[float, ...]:
    """Return a number, or several, as a tuple of floats; an empty one for anything else."""
    try:
        return tuple(map(float, values if isinstance(values, Iterable) else (values,)))
    except (TypeError, ValueError):
        return ()


def white(text: str) -> str | int:
    """Return the value of an option `--white`: a name of WHITES or a number."""
    return int(text) if text.isdecimal() else text


def _has_type(value: Any, annotation: Any) -> bool:
    """Return whether a value has a field's type. Tuples are left to `check_noise`."""
    if typing.get_origin(annotation) is tuple:
        return True
    expected = typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
    if isinstance(value, bool):  # a bool is an int, too
        return bool in expected
    return isinstance(value, tuple({int: numbers.Integral, float: numbers.Real}.get(one, one) for one in expected))


def _none_or(value: Any, is_valid: Callable[[Any], bool]) -> bool:
    return value is None or is_valid(value)


# Values that differ from TrainConfig's defaults, which are those of the PyTorch original.
RECIPES: dict[str, dict[str, Any]] = {
    "seed": {},
    "quick": {
        "batch_size": 64,
        "epochs": 1,
        "learning_rate": 0.008,
        "beta_1": 0.7,
        "beta_2": 0.95,
        "schedule": "cosine",
        "warmup_steps": 100,
        "initialization": "he",
    },
    "best": {
        "batch_size": 128,
        "epochs": 60,
        "learning_rate": 0.006,
        "beta_1": 0.7,  # low decay rates: the usual ones left a quarter of the bottleneck's units dead
        "beta_2": 0.95,
        "schedule": "cosine",
        "warmup_steps": 1000,
        "initialization": "he",
    },
    # Photographs, blind: any Gaussian noise up to σ = 55 of 255. It is meant for the network `unet`.
    "photo": {
        "network": "unet",
        "noise_factor": (0.0, 55 / 255),
        "clip": False,
        "flips": True,
        "scales": (1.0, 0.9, 0.8, 0.7),
        "batch_size": 8,  # at equal patches, 32 lost 0.2 to 0.4 dB
        "epochs": 200,
        "learning_rate": 0.0015,
        "beta_2": 0.99,
        "schedule": "cosine",
        "warmup_steps": 500,
        "clip_norm": 1.0,
        "average": 0.999,
        "initialization": "he",
    },
}
