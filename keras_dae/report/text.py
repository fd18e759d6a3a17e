"""An evaluation in words: a table and remarks."""

from collections.abc import Sequence
from dataclasses import dataclass

from keras_dae.errors import printable
from keras_dae.noise_names import describe_level
from keras_dae.runs.evaluation import ContenderResult, Evaluation, Interval, NoiseLevel

METRIC_TITLES = {"mse": "MSE", "psnr": "PSNR (dB)", "ssim": "SSIM"}

# The gains, in dB, are those at the levels where the model gains least and most.
REMARK = (
    "{model}, {training}: mean PSNR {over_noisy} against the noisy images; {over_classical} against the best of the "
    "classical methods here ({best}); images made worse: {worse}"
)
TRAINING = {
    True: "on noise it was trained for",
    False: "on noise it was not trained for",
    None: "trained for unknown noise",
}


def results_table(evaluation: Evaluation) -> str:
    """Return the results as text: a block for each noise level, with a line for each contender.

    Each cell is a mean ± half the width of its confidence interval.
    """
    names = [printable(result.name) for result in evaluation.levels[0].results]
    width = max(map(len, names)) + 2
    images = describe_images(evaluation.images, evaluation.patches)
    lines = [f"{evaluation.dataset}: {images}, {evaluation.described_noise}"]
    untrained = False
    for level in evaluation.levels:
        head = f"noise {describe_level(level.noise_factor)}".strip()
        titles = "".join(f"{title:>18}" for title in METRIC_TITLES.values())
        lines += ["", f"{head:{width}}{titles}{'made worse':>14}"]
        for name, result in zip(names, level.results):
            if result.trained_for_this is False:
                name, untrained = f"{name} *", True
            cells = (_cell(result.mse, 5), _cell(result.psnr, 2), _cell(result.ssim, 3))
            worse = "" if result.kind == "noisy" else f"{result.made_worse:,}"
            lines.append(f"{name:{width}}" + "".join(f"{cell:>18}" for cell in cells) + f"{worse:>14}")
    if untrained:
        lines += ["", "* not trained for this noise"]
    return "\n".join(lines)


def remarks(evaluation: Evaluation) -> list[str]:
    """Return sentences that compare each model with the noisy images and with the best classical method.

    There is one for the levels that the model was trained for, and one for the others.
    """
    sentences = []
    for results in evaluation.contenders:
        if results[0].kind != "model":
            continue
        comparisons = [_compare(level, result) for level, result in zip(evaluation.levels, results)]
        for trained_for_this, training in TRAINING.items():
            chosen = [comparison for comparison in comparisons if comparison.trained_for_this is trained_for_this]
            if chosen:
                sentences.append(_remark(printable(results[0].name), training, chosen, evaluation.images))
    return sentences


def describe_images(images: int, patches: int | None) -> str:
    """Return in words how many test images, or patches of them, were measured.

    Example:
        >>> describe_images(2000, None), describe_images(12, 480)
        ('2,000 test images', '12 test images (480 patches)')
    """
    return f"{images:,} test images" + ("" if patches is None else f" ({patches:,} patches)")


@dataclass(frozen=True)
class _Comparison:
    """A model at one noise level, compared with the noisy images and with the best classical method.

    Attributes:
        level: in words.
        trained_for_this: whether the model was trained for this noise; None if that is unknown.
        over_noisy, over_classical: how much higher the model's mean PSNR is, in dB.
        best_classical: name of the best classical method.
        made_worse: number of images.
    """

    level: str
    trained_for_this: bool | None
    over_noisy: float
    over_classical: float
    best_classical: str
    made_worse: int


def _compare(level: NoiseLevel, model: ContenderResult) -> _Comparison:
    return _Comparison(
        level=describe_level(level.noise_factor) or "real noise",
        trained_for_this=model.trained_for_this,
        over_noisy=model.psnr.mean - level.noisy.psnr.mean,
        over_classical=model.psnr.mean - level.best_classical.psnr.mean,
        best_classical=level.best_classical.name,
        made_worse=model.made_worse,
    )


def _remark(model: str, training: str, comparisons: Sequence[_Comparison], images: int) -> str:
    """Return the sentence about a model at some levels."""
    noisy = _lowest_and_highest(comparisons, [c.over_noisy for c in comparisons])
    classical = _lowest_and_highest(comparisons, [c.over_classical for c in comparisons])
    worse = [f"{c.made_worse:,} of {images:,} at {c.level}" for c in comparisons if c.made_worse]
    return REMARK.format(
        model=model,
        training=training,
        over_noisy=" to ".join(f"{c.over_noisy:+.2f} dB (at {c.level})" for c in noisy),
        over_classical=" to ".join(f"{c.over_classical:+.2f} dB (at {c.level})" for c in classical),
        best=", ".join(dict.fromkeys(c.best_classical for c in classical)),
        worse=", ".join(worse) or "none",
    )


def _lowest_and_highest(comparisons: Sequence[_Comparison], gains: Sequence[float]) -> list[_Comparison]:
    """Return the comparisons with the lowest and with the highest gain; the only one if there is just one."""
    order = sorted(range(len(gains)), key=gains.__getitem__)
    return [comparisons[index] for index in dict.fromkeys((order[0], order[-1]))]


def _cell(interval: Interval, digits: int) -> str:
    if interval.low is None or interval.high is None:
        return f"{interval.mean:.{digits}f}"
    return f"{interval.mean:.{digits}f} ±{(interval.high - interval.low) / 2:.{digits}f}"
