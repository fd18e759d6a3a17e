"""The names of the noise models and the check of their factors, without importing TensorFlow."""

REPLACING = ("salt", "pepper", "salt_and_pepper")  # noises whose factor is a probability
NOISES = ("gaussian", "uniform", *REPLACING, "speckle", "poisson")


def check_noise(noise, noise_factor):
    """Return `(noise, noise_factor)` as tuples: names of NOISES, and one number or a low and a high one.

    Raises:
        ValueError: an unknown name, a factor that is negative, not finite or over 1 where it is a probability, or
            a range that is not two ascending numbers.
    """
    noise = (noise,) if isinstance(noise, str) else tuple(noise)
    unknown = [name for name in noise if name not in NOISES]
    if unknown or not noise:
        raise ValueError(f"expected noise to be of {', '.join(NOISES)}; got {', '.join(unknown) or 'none'}")
    factors = tuple(float(value) for value in (noise_factor if hasattr(noise_factor, "__len__") else (noise_factor,)))
    got = " ".join(map(str, factors))
    if len(factors) not in (1, 2) or sorted(factors) != list(factors):
        raise ValueError(f"expected noise_factor to be one number or LOW HIGH, got {got}")
    most = 1.0 if set(noise) & set(REPLACING) else float("inf")
    if not all(0 <= value <= most and value < float("inf") for value in factors):
        limit = f"in [0, 1] for {', '.join(noise)}" if most == 1 else "finite and not negative"
        raise ValueError(f"expected noise_factor to be {limit}, got {got}")
    return noise, factors
