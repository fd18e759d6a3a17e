"""Means with confidence intervals."""

import numpy as np

from keras_dae.runs.evaluation import Interval

CONFIDENCE = 0.95


def confidence_interval(values: np.ndarray) -> Interval:
    """Return the mean of float `(n,)` values and its 95 % confidence interval by Student's t distribution.

    A single value has no interval.

    Example:
        >>> confidence_interval(np.array([5.0]))
        Interval(mean=5.0, low=None, high=None)
    """
    from scipy.stats import sem, t

    mean, count = float(np.mean(values)), len(values)
    if count < 2:
        return Interval(mean, None, None)
    half = float(t.ppf((1 + CONFIDENCE) / 2, count - 1) * sem(values))
    return Interval(mean, mean - half, mean + half)
