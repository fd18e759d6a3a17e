"""What the noise of a folder means for the training, in plain words, and the command to run."""

import shlex
from typing import NamedTuple

import numpy as np

from keras_dae.inspect.folder import NoiseReport

MAX_INDEPENDENT = 0.3  # autocorrelation at a distance of one pixel; the mean of x and y
MAX_INDEPENDENT_AXIS = 0.4  # of one of them alone, as in lines of a scanner
MAX_WEAK = 0.15  # above it, the noise of neighbours is related a little
MIN_SIGMA = 1.0  # of 255; detail alone gives as much
MIN_DEVIATION = 0.4  # of 255, in the flattest blocks; rounding to 8 bits alone gives 0.3
# Detail, and not noise, is measured if the autocorrelation grows by this much where there is more detail, and σ is not
# much less than the deviation of the flattest blocks, as it is for correlated noise. Above the last deviation, it is
# taken for noise all the same.
MIN_GROWTH, MIN_SIGMA_OF_DETAIL, MAX_DETAIL = 0.1, 0.5, 1.5
FLAT_DEVIATION = 30.0  # of 255; correlated "noise" above that is detail: the images have no flat place
NEAR_FLOOR = 2.5
MIN_FILES = 3
MAX_SATURATED = 0.1


class Verdict(NamedTuple):
    """What the noise of a folder means.

    Attributes:
        kind: `white` (independent from pixel to pixel), `correlated`, `little`, or `unknown`.
        sentences: plain words.
        command: what to run; None if there is nothing to run.
    """

    kind: str
    sentences: tuple[str, ...]
    command: str | None

    @property
    def is_correlated(self) -> bool:
        """Whether training from these noisy images alone would keep the noise."""
        return self.kind == "correlated"


def judge(report: NoiseReport) -> Verdict:
    """Return the verdict on a folder."""
    kind = noise_kind(report)
    say = {"white": _white, "correlated": _correlated, "little": _little, "unknown": _unknown}[kind]
    return Verdict(kind, (*say(report), *_remarks(report, kind)), command_for(report, kind))


def noise_kind(report: NoiseReport) -> str:
    """Return `white`, `correlated`, `little` or `unknown`, see `Verdict`."""
    is_correlated = sum(report.lag1) / 2 > MAX_INDEPENDENT or max(report.lag1) > MAX_INDEPENDENT_AXIS
    if report.second_dir is not None:  # without the detail of the scenes
        return "correlated" if is_correlated else "white"
    if is_correlated and report.deviation > FLAT_DEVIATION:
        return "unknown"
    is_detail = report.growth > MIN_GROWTH and report.sigma.median > MIN_SIGMA_OF_DETAIL * report.deviation
    if is_correlated and is_detail and report.deviation < MAX_DETAIL:
        return "little"
    if report.sigma.median < MIN_SIGMA and (not is_correlated or report.deviation < MIN_DEVIATION):
        return "little"
    return "correlated" if is_correlated else "white"


def command_for(report: NoiseReport, kind: str) -> str | None:
    """Return the command that fits the noise. CLEAN is a folder of clean images of the same kind.

    This is the only place that knows which trainings there are.
    """
    if kind not in ("white", "correlated"):
        return None
    words = ["python", "-m", "keras_dae.train", "--recipe", "photo", "--dataset", "CLEAN"]
    if kind == "white" and report.second_dir is not None:  # Noise2Noise: a shot is the target of the other
        words = [*words[:5], "--noisy-dir", report.folder, "--clean-dir", report.second_dir]
    elif kind == "correlated":
        words += ["--degrade", "photo"]
    elif grows_with_brightness(report) and report.curve:
        at_white = max(report.curve.gain * 255 + report.curve.intercept, 0) ** 0.5
        words += ["--noise", "poisson_gaussian", "--sigma", _short(at_white)]
    else:
        words += ["--sigma", _short(report.sigma.median)]
    if report.is_colour:
        words += ["--channels", "3"]
    return shlex.join(words)


def grows_with_brightness(report: NoiseReport) -> bool:
    """Return whether the variance of the noise doubles, at least, within the brightness that the images have."""
    if not report.curve:
        return False
    low, high = (report.curve.intercept + report.curve.gain * level for level in _range(report.curve.level))
    return high > 2 * max(low, 0)


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def _range(levels: np.ndarray) -> tuple[float, float]:
    return float(levels.min()), float(levels.max())


def _lag(report: NoiseReport) -> str:
    return f"{report.lag1[0]:.2f} in x, {report.lag1[1]:.2f} in y"


def _white(report: NoiseReport) -> list[str]:
    said = ["The noise is independent from pixel to pixel. Training from noisy images alone can work."]
    if max(report.lag1) > MAX_WEAK:
        said = [
            f"The noise is almost independent from pixel to pixel (autocorrelation {_lag(report)}). Training from "
            "noisy images alone can work, but may leave some of the noise."
        ]
    if report.second_dir is not None:
        said.append("There are two shots of each scene: each can be the target of the other (Noise2Noise).")
    if grows_with_brightness(report):
        said.append("Its variance grows with the brightness, as the noise of a sensor does.")
    return said


def _correlated(report: NoiseReport) -> list[str]:
    said = [
        f"The noise is correlated: neighbouring pixels have an autocorrelation of {_lag(report)}, and "
        f"{MAX_INDEPENDENT:g} is the limit. Training from noisy images alone predicts a pixel from its neighbours, so "
        "it would learn the noise and keep it."
    ]
    if report.second_dir is None:
        said.append(f"The noise level σ is too low for such noise; the flattest blocks vary by {report.deviation:.1f}.")
    if report.deviation < NEAR_FLOOR:
        said.append("That is weak. If the images look clean, they need no denoising.")
    said.append(
        "Ways out: clean images of the same kind (--recipe photo --dataset CLEAN --degrade photo); pairs of noisy and "
        "clean images (--noisy-dir, --clean-dir); the camera's raw files, before demosaicing and JPEG; or a model that "
        "was trained on such noise."
    )
    return said


def _little(report: NoiseReport) -> list[str]:
    return [
        f"The images have little or no noise: σ = {report.sigma.median:.1f} of 255. Fine detail alone gives 0.5 to 2.",
        "There is nothing to learn from their noise. They can be the clean images of a training (--dataset).",
    ]


def _unknown(report: NoiseReport) -> list[str]:
    return [
        "The images have no flat places in which noise could be seen: the flattest blocks vary by "
        f"{report.deviation:.0f} of 255. Two shots of each scene (--second-dir) would show it."
    ]


def _remarks(report: NoiseReport, kind: str) -> list[str]:
    said = []
    if kind == "white" and report.second_dir is None and report.sigma.median < NEAR_FLOOR:
        said.append(
            f"σ = {report.sigma.median:.1f} is near the lowest that can be measured, as fine detail adds 0.5 to 2."
        )
    if kind == "white" and report.jpegs:
        said.append(f"{report.jpegs} of {report.files} files are JPEGs, whose compression changes noise.")
    if report.shifted:
        said.append(
            f"{report.shifted} of {report.files} pairs are shifted by up to one pixel, so that detail counts as noise."
        )
    if report.saturated > MAX_SATURATED:
        said.append(
            f"{report.saturated:.0%} of the values are black or white, where noise is cut off: σ is less certain."
        )
    if report.files < MIN_FILES:
        count = "1 image" if report.files == 1 else f"{report.files} images"
        said.append(f"This rests on {count}. With {MIN_FILES} or more, one unusual image would not decide.")
    return said
