"""The names of the noise models, the check of their factors, and noise in words. Does not import TensorFlow."""

import math
from collections.abc import Iterable, Sequence

REPLACING = ("salt", "pepper", "salt_and_pepper")  # noise models whose factor is a probability
NOISES = ("gaussian", "uniform", *REPLACING, "speckle", "poisson", "poisson_gaussian", "correlated", "photo")
PARTS = {"photo": ("gaussian", "poisson_gaussian", "correlated")}  # of a mixture, one of which each image gets
REAL_PAIRS = "real pairs"  # stands in the place of a noise model's name where the noisy images are real


def check_noise(
    noise: str | Iterable[str], noise_factor: float | Iterable[float]
) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Return `(noise, noise_factor)` as tuples: one or more names of NOISES, and one number or a low and a high one.

    Raises:
        ValueError: a name is unknown; a factor is negative, not finite, or over 1 where it is a probability; or a
            range is not two ascending numbers.

    Example:
        >>> check_noise("gaussian", 0.5)
        (('gaussian',), (0.5,))
    """
    noise = (noise,) if isinstance(noise, str) else tuple(noise)
    unknown = [name for name in noise if name not in NOISES]
    if unknown or not noise:
        raise ValueError(f"expected noise to be of {', '.join(NOISES)}; got {', '.join(unknown) or 'none'}")
    factors = tuple(map(float, noise_factor if isinstance(noise_factor, Iterable) else (noise_factor,)))
    got = " ".join(map(str, factors))
    if len(factors) not in (1, 2) or sorted(factors) != list(factors):
        raise ValueError(f"expected noise_factor to be one number or LOW HIGH, got {got}")
    maximum = 1.0 if set(noise) & set(REPLACING) else math.inf
    if not all(0 <= value <= maximum and value < math.inf for value in factors):
        limit = f"in [0, 1] for {', '.join(noise)}" if maximum == 1 else "finite and not negative"
        raise ValueError(f"expected noise_factor to be {limit}, got {got}")
    return noise, factors


def sigma(text: str) -> float:
    """Return a standard deviation that is given on the scale from 0 to 255 on the scale from 0 to 1.

    Raises:
        ValueError: the text is not a number.

    Example:
        >>> sigma("51")
        0.2
    """
    return float(text) / 255


def describe_noise(noise: Sequence[str], level: str = "", clip: bool = True) -> str:
    """Return noise in words.

    Args:
        noise: names of NOISES, or `("real pairs",)` where the noisy images are real.
        level: see `describe_level`.
        clip: whether noisy values are clipped to [0, 1].

    Example:
        >>> describe_noise(("gaussian", "speckle"))
        'gaussian or speckle noise'
        >>> describe_noise(("gaussian",), "0.1", clip=False)
        'gaussian noise 0.1, not clipped'
        >>> describe_noise(("real pairs",))
        'real noise'
    """
    if tuple(noise) == (REAL_PAIRS,):
        return "real noise"
    return f"{' or '.join(noise)} noise {level}".strip() + ("" if clip else ", not clipped")


def describe_level(noise_factor: Sequence[float] | None) -> str:
    """Return a noise level in words; an empty string for real noise, which has no factor.

    Args:
        noise_factor: `(factor,)`, `(low, high)`, or None for real noise.

    Example:
        >>> describe_level((0.5,)), describe_level((0.1, 0.9)), describe_level(None)
        ('0.5', '0.1 to 0.9', '')
    """
    return " to ".join(f"{factor:g}" for factor in noise_factor or ())
