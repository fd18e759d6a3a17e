"""The noise that a model was trained for, or that it is measured on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from keras_dae.noise_names import PARTS, REAL_PAIRS, describe_level, describe_noise

if TYPE_CHECKING:  # the shipped models are listed without importing NumPy
    from keras_dae.config import TrainConfig


@dataclass(frozen=True)
class NoiseSetting:
    """Noise models and their factor.

    Attributes:
        noise: names of `keras_dae.noise_names.NOISES`, one of which is drawn for each image; or REAL_PAIRS alone, for
            pairs of real noisy and clean images.
        noise_factor: one factor, or the lowest and the highest one; None for real noise.
        clip: whether noisy values outside [0, 1] are set to 0 or 1.
    """

    noise: tuple[str, ...]
    noise_factor: tuple[float, ...] | None
    clip: bool = True

    @classmethod
    def of(cls, config: "TrainConfig") -> Self:
        """Return the noise of a config."""
        return cls((REAL_PAIRS,), None) if config.has_pairs else cls(config.noise, config.noise_factor, config.clip)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Return the noise in a JSON object with `noise`, `noise_factor` and `clip` (True if it is not there)."""
        return cls(tuple(values["noise"]), factors_from_json(values["noise_factor"]), values.get("clip", True))

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object that `from_dict` reads."""
        values = {"noise": list(self.noise), "noise_factor": factors_to_json(self.noise_factor)}
        return values if self.clip else {**values, "clip": False}

    def describe(self) -> str:
        """Return the noise in words.

        Example:
            >>> NoiseSetting(("gaussian", "salt"), (0.1, 0.5)).describe()
            'gaussian or salt noise 0.1 to 0.5'
            >>> NoiseSetting(("gaussian",), (0.1,), clip=False).describe()
            'gaussian noise 0.1, not clipped'
        """
        return describe_noise(self.noise, describe_level(self.noise_factor), self.clip)

    def covers(self, other: Self) -> bool:
        """Return whether a model that was trained for this noise was trained for `other`, too.

        Clipped and unclipped noise are different noises.

        Example:
            >>> trained_for = NoiseSetting(("gaussian", "salt"), (0.1, 0.5))
            >>> trained_for.covers(NoiseSetting(("salt",), (0.2,))), trained_for.covers(NoiseSetting(("salt",), (0.6,)))
            (True, False)
            >>> trained_for.covers(NoiseSetting(("salt",), (0.2,), clip=False))
            False
            >>> NoiseSetting(("photo",), (0, 0.2)).covers(NoiseSetting(("gaussian",), (0.1,)))  # a part of it
            True
        """
        if self.noise_factor is None or other.noise_factor is None:
            return self.noise_factor is other.noise_factor
        parts = {part for name in self.noise for part in (name, *PARTS.get(name, ()))}
        low, high = min(self.noise_factor), max(self.noise_factor)
        is_in_range = all(low <= factor <= high for factor in other.noise_factor)
        return self.clip == other.clip and set(other.noise) <= parts and is_in_range


def factors_from_json(factors: Sequence[float] | None) -> tuple[float, ...] | None:
    """Return a `noise_factor` of a JSON file as a tuple, or None for real noise."""
    return None if factors is None else tuple(factors)


def factors_to_json(factors: tuple[float, ...] | None) -> list[float] | None:
    """Return a `noise_factor` as the list that JSON files hold, or None for real noise."""
    return None if factors is None else list(factors)
