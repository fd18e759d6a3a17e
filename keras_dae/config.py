"""TrainConfig: everything that a training run follows from, with every default; the recipes."""

import dataclasses
import numbers
import types
import typing
from dataclasses import dataclass

import numpy as np

from keras_dae.errors import UserError
from keras_dae.networks.geometry import AUTOENCODER
from keras_dae.noise_names import check_noise

# The names that options may take.
DATASETS = ("auto", "mnist", "fashion_mnist", "digits")
INITIALIZATIONS = ("torch", "he")
SCHEDULES = ("constant", "cosine")
PATCH_SIZES = f"a multiple of {AUTOENCODER.multiple}, at least {AUTOENCODER.min_padded_size}"  # in words
# Fields that say where data lies, not what is computed.
LOCATION_FIELDS = ("data_dir",)


@dataclass(frozen=True)
class TrainConfig:
    """One training run. Raises `UserError` when a value is out of its range.

    Attributes:
        recipe: name of the recipe the values came from, for the record.
        dataset: `auto`, `mnist`, `fashion_mnist`, `digits`, or the path of a folder of images, an .npz or .npy.
        data_dir: where `mnist` and `fashion_mnist` are looked for first; None for the usual places.
        noisy_dir, clean_dir: folders of real pairs, matched by name; both or neither. They replace `dataset`.
        channels: 1 (grey) or 3 (RGB).
        patch_size: pixels; images other than whole data sets of one small size are trained in patches of this
            size, which must fit the network (see `PATCH_SIZES`). None chooses one that fits.
        patches_per_image: at most so many patches of an image in an epoch.
        limit: use only so many training and test images; None for all.
        validation_split: share of the training images held out, in (0, 1).
        noise, noise_factor, clip: see `keras_dae.noise.add_noise`.
        batch_size, epochs: images a step; passes over the training images.
        learning_rate, beta_1, beta_2: Adam's; the learning rate is the peak of the schedule.
        schedule: `constant`, or `cosine` decay to 0 at the end.
        warmup_steps: steps in which the learning rate rises linearly from 0.
        initialization: `torch` or `he`, see `keras_dae.networks.autoencoder.initializers`.
        early_stopping: stop after so many epochs without a lower validation loss, and keep the best weights;
            None never stops.
        seed: fixes initial weights, split, order and noise. Evaluation noise is the same for every seed.
    """

    recipe: str = "seed"
    dataset: str = "auto"
    data_dir: str | None = None
    noisy_dir: str | None = None
    clean_dir: str | None = None
    channels: int = 1
    patch_size: int | None = None
    patches_per_image: int = 16
    limit: int | None = None
    validation_split: float = 0.05
    noise: tuple[str, ...] = ("gaussian",)
    noise_factor: tuple[float, ...] = (0.5,)
    clip: bool = True
    batch_size: int = 100
    epochs: int = 5
    learning_rate: float = 0.001
    beta_1: float = 0.9
    beta_2: float = 0.999
    schedule: str = "constant"
    warmup_steps: int = 0
    initialization: str = "torch"
    early_stopping: int | None = None
    seed: int = 0

    def __post_init__(self):
        for field in dataclasses.fields(self):
            if isinstance(value := getattr(self, field.name), np.generic):  # which JSON does not know
                object.__setattr__(self, field.name, value.item())
            if not _is_a(getattr(self, field.name), field.type):
                raise UserError(
                    f"expected {field.name} to be {getattr(field.type, '__name__', field.type)}, "
                    f"got {getattr(self, field.name)!r}"
                )
        try:
            noise, factors = check_noise(self.noise, self.noise_factor)
        except (ValueError, TypeError) as error:
            raise UserError(f"noise or noise_factor: {error}" if isinstance(error, TypeError) else str(error)) from None
        object.__setattr__(self, "noise", noise)
        object.__setattr__(self, "noise_factor", factors)
        for name, expected, holds in (
            ("recipe", f"one of {', '.join(RECIPES)}", self.recipe in RECIPES),
            ("channels", "1 or 3", self.channels in (1, 3)),
            ("patch_size", PATCH_SIZES, _none_or(self.patch_size, lambda size: AUTOENCODER.padded_size(size) == size)),
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
            ("initialization", f"one of {', '.join(INITIALIZATIONS)}", self.initialization in INITIALIZATIONS),
            ("early_stopping", "at least 1", _none_or(self.early_stopping, lambda n: n >= 1)),
            ("seed", "in 0 ... 2147483647", 0 <= self.seed < 2**31),
        ):
            if not holds:
                raise UserError(f"expected {name} to be {expected}, got {getattr(self, name)!r}")
        if (self.noisy_dir is None) != (self.clean_dir is None):
            raise UserError("expected --noisy-dir and --clean-dir together, got only one of them")

    @property
    def has_pairs(self):
        """Whether real noisy images are given, so that no noise is synthesized."""
        return self.noisy_dir is not None

    @classmethod
    def from_recipe(cls, recipe="seed", **overrides):
        """Return the recipe's config with some fields replaced. Raises `UserError` for an unknown recipe."""
        if recipe not in RECIPES:
            raise UserError(f"expected recipe to be one of {', '.join(RECIPES)}, got {recipe!r}")
        return cls(**{"recipe": recipe, **RECIPES[recipe], **overrides})

    @classmethod
    def from_dict(cls, values):
        """Return the config that `to_dict` gave. Raises `UserError` for fields that are unknown."""
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(values) - known):
            raise UserError(
                f"expected the fields of TrainConfig, got also {', '.join(unknown)}: a newer version's file?"
            )
        return cls(**values)

    def to_dict(self):
        """Return the fields as JSON-ready values."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in dataclasses.asdict(self).items()}

    def differences(self, other):
        """Return the names of fields in which what is computed differs."""
        return [f.name for f in dataclasses.fields(self)
                if f.name not in LOCATION_FIELDS and getattr(self, f.name) != getattr(other, f.name)]  # fmt: skip


def _is_a(value, kind):
    """Return whether a value is of a field's type; tuples are left to `check_noise`."""
    kinds = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    if typing.get_origin(kind) is tuple:
        return True
    if isinstance(value, bool):
        return bool in kinds
    return isinstance(value, tuple({int: numbers.Integral, float: numbers.Real}.get(kind, kind) for kind in kinds))


def _none_or(value, holds):
    return value is None or holds(value)


# Only what differs from TrainConfig's defaults, which are the PyTorch original's values.
RECIPES = {
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
        "beta_1": 0.7,  # short memories: the usual ones left a quarter of the bottleneck's units dead
        "beta_2": 0.95,
        "schedule": "cosine",
        "warmup_steps": 1000,
        "initialization": "he",
    },
}
