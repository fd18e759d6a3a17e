"""The pictures of a run and of its evaluation, all in the same style."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from keras_dae._util.atomic import atomic_file
from keras_dae.runs.evaluation import Evaluation

PathLike = str | os.PathLike

INK, MUTED, FAINT = "#1f2933", "#7b8794", "#e4e7eb"
COLOURS = ("#2563eb", "#ea580c", "#059669", "#9333ea", "#db2777", "#0891b2")
DASHES = ("-", "--", ":", "-.")
STYLE: dict[str, Any] = {"facecolor": "white", "layout": "constrained"}


@style.context("default")  # whatever matplotlibrc says
def plot_samples(path: PathLike, clean: np.ndarray, noisy: np.ndarray, denoised: np.ndarray, title: str) -> None:
    """Plot images in three rows, original, noisy and denoised, with the PSNR of each image in dB.

    Args:
        path: the PNG file.
        clean, noisy, denoised: float32 `(n, height, width, channels)`, 1 to about 12 images. Values outside [0, 1] are
            shown as 0 or 1.
        title: one line.
    """
    columns = len(clean)
    figure = Figure(figsize=(max(1.05 * columns, 4) + 0.9, 4.1), dpi=110, **STYLE)
    _image_rows(figure.subplots(3, columns, squeeze=False), clean, noisy, denoised)
    figure.suptitle(title, fontsize=11, color=INK)
    _save(figure, path)


@style.context("default")  # whatever matplotlibrc says
def plot_ranked(path: PathLike, clean: np.ndarray, noisy: np.ndarray, denoised: np.ndarray, title: str) -> None:
    """Plot the worst, the median and the best images, in that order, in the rows of `plot_samples`.

    Args:
        path, clean, noisy, denoised, title: see `plot_samples`; the number of images is a multiple of 3.
    """
    each, gap = len(clean) // 3, 0.2
    widths = [*[1] * each, gap] * 3
    figure = Figure(figsize=(max(1.05 * sum(widths), 4) + 0.9, 4.3), dpi=110, **STYLE)
    axes = figure.subplots(3, len(widths) - 1, squeeze=False, width_ratios=widths[:-1])
    for axis in axes[:, [each, 2 * each + 1]].flat:
        axis.set_axis_off()
    axes = np.delete(axes, [each, 2 * each + 1], axis=1)
    _image_rows(axes, clean, noisy, denoised)
    for axis, name in zip(axes[0, ::each], ("worst", "median", "best")):
        axis.set_title(name, fontsize=10, color=MUTED, loc="left")
    figure.suptitle(title, fontsize=11, color=INK)
    _save(figure, path)


def _image_rows(axes: np.ndarray, clean: np.ndarray, noisy: np.ndarray, denoised: np.ndarray) -> None:
    """Draw original, noisy and denoised images into three rows of axes, with PSNR below the latter two."""
    for row, (label, images) in enumerate((("original", clean), ("noisy", noisy), ("denoised", denoised))):
        for axis, image, original in zip(axes[row], images, clean):
            axis.imshow(np.clip(image, 0, 1).squeeze(), cmap="gray", vmin=0, vmax=1)
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
            if row:
                error = max(float(np.mean((image - original) ** 2)), 1e-10)
                axis.set_xlabel(f"{-10 * np.log10(error):.1f} dB", fontsize=8, color=MUTED, labelpad=2)
        axes[row, 0].set_ylabel(label, fontsize=11, color=INK)


@style.context("default")  # whatever matplotlibrc says
def plot_loss(path: PathLike, history: Sequence[Mapping[str, float]], title: str) -> None:
    """Plot training and validation loss (mean squared error, on a logarithmic axis) against the epoch.

    Args:
        path: the PNG file.
        history: one row per epoch, with the columns of history.csv.
        title: one line.
    """
    figure = Figure(figsize=(6.4, 4), dpi=110, **STYLE)
    axis = figure.subplots()
    epochs = [row["epoch"] for row in history]
    for key, label, colour in zip(("loss", "val_loss"), ("training", "validation"), COLOURS):
        values = [row[key] for row in history]
        axis.plot(epochs, values, color=colour, label=label, marker="o" if len(epochs) <= 10 else None, markersize=4)
    axis.set_yscale("log")
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter("{x:g}")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    _finish(axis, "epoch", "mean squared error", title)
    axis.legend(frameon=False)
    _save(figure, path)


@style.context("default")  # whatever matplotlibrc says
def plot_psnr(path: PathLike, evaluation: Evaluation, title: str) -> None:
    """Plot mean PSNR against the noise level, with one line for each contender; with one level, plot bars instead.

    Models are coloured, and circles mark the levels that they were trained for. Classical methods and the noisy images
    are grey.

    Args:
        path: the PNG file.
        evaluation: what to plot.
        title: one line.
    """
    contenders = evaluation.contenders
    styles = _contender_styles([results[0].kind for results in contenders])
    if len(evaluation.levels) == 1:
        figure = Figure(figsize=(6.8, 1.3 + 0.36 * len(contenders)), dpi=110, **STYLE)
        axis = figure.subplots()
        names = [result.name for (result,) in contenders]
        values = [result.psnr.mean for (result,) in contenders]
        bars = axis.barh(names, values, color=[color for color, _ in styles], height=0.62)
        axis.bar_label(bars, fmt="%.2f", padding=4, fontsize=9, color=INK)
        axis.invert_yaxis()
        axis.set_xlim(0, 1.1 * max(values))
        _finish(axis, "mean PSNR (dB)", "", title, grid="x")
    else:
        figure = Figure(figsize=(7.6, 4.6), dpi=110, **STYLE)
        axis = figure.subplots()
        # Several levels are always given as one factor each.
        factors = [level.noise_factor[0] for level in evaluation.levels if level.noise_factor]
        for results, (color, dashes) in zip(contenders, styles):
            values = [result.psnr.mean for result in results]
            axis.plot(factors, values, dashes, color=color, label=results[0].name, marker="o", markersize=3)
            trained = [(f, v) for f, v, result in zip(factors, values, results) if result.trained_for_this]
            if trained:
                axis.plot(*zip(*trained), "o", color=color, markersize=9, fillstyle="none")
        _finish(axis, "noise factor", "mean PSNR (dB)", title)
        axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1), title="○ trained for")
    _save(figure, path)


def _contender_styles(kinds: Sequence[str]) -> list[tuple[str, str]]:
    """Return each contender's `(colour, dashes)`. Models differ in colour; the others are grey and differ in dashes."""
    models, others = iter(COLOURS * len(kinds)), iter(DASHES * len(kinds))
    return [(next(models), "-") if kind == "model" else (MUTED, next(others)) for kind in kinds]


def _finish(axis: Axes, xlabel: str, ylabel: str, title: str, grid: Literal["both", "x"] = "both") -> None:
    """Set the labels and the style that all plots have."""
    axis.set_xlabel(xlabel, color=INK)
    axis.set_ylabel(ylabel, color=INK)
    axis.set_title(title, fontsize=11, color=INK)
    axis.grid(True, which="both", axis=grid, color=FAINT, linewidth=0.6)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(colors=MUTED, which="both")


def _save(figure: Figure, path: PathLike) -> None:
    """Write the picture atomically."""
    with atomic_file(path) as temporary:
        figure.savefig(temporary)
