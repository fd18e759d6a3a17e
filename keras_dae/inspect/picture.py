"""The picture of a report: noise curve, autocorrelation and the flattest blocks."""

import os

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from keras_dae._util.atomic import atomic_file
from keras_dae.inspect.correlation import MAX_LAG
from keras_dae.inspect.folder import NoiseReport
from keras_dae.report.plots import COLOURS, FAINT, INK, MUTED, STYLE

SHOWN_DEVIATIONS = 3  # of the blocks, from grey to black and to white


@style.context("default")  # whatever matplotlibrc says
def plot_noise(path: str | os.PathLike, report: NoiseReport) -> None:
    """Plot the noise of a folder, atomically.

    Args:
        path: the picture; its suffix is a format that matplotlib knows, such as .png.
        report: what to plot.

    Raises:
        UserError: the file cannot be written.
    """
    figure = Figure(figsize=(11, 3.6), dpi=110, **STYLE)
    curve, correlation, blocks = figure.subplots(1, 3, width_ratios=(1.35, 1.15, 1))
    _plot_curve(curve, report)
    _plot_correlation(figure, correlation, report)
    _plot_blocks(blocks, report)
    count = "1 image" if report.files == 1 else f"{report.files:,} images"
    figure.suptitle(f"{count}, noise level σ = {report.sigma.median:.1f} of 255", fontsize=11, color=INK)
    with atomic_file(path) as temporary:
        figure.savefig(temporary)


def _plot_curve(axis: Axes, report: NoiseReport) -> None:
    axis.set_title("noise curve", fontsize=10, color=MUTED, loc="left")
    axis.set_xlabel("level (of 255)", color=INK)
    axis.set_ylabel("variance", color=INK)
    axis.grid(True, color=FAINT, linewidth=0.6)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(colors=MUTED)
    if not report.curve:
        axis.text(0.5, 0.5, "not known", ha="center", transform=axis.transAxes, color=MUTED)
        return
    axis.plot(report.curve.level, report.curve.variance, "o", color=COLOURS[0], markersize=5)
    levels = np.arange(256.0)
    axis.plot(
        levels, np.maximum(report.curve.intercept + report.curve.gain * levels, 0), color=COLOURS[1], linewidth=1.5
    )
    axis.set_xlim(0, 255)
    axis.set_ylim(bottom=0)


def _plot_correlation(figure: Figure, axis: Axes, report: NoiseReport) -> None:
    axis.set_title("autocorrelation", fontsize=10, color=MUTED, loc="left")
    edge = MAX_LAG + 0.5
    shown = axis.imshow(report.map, cmap="RdBu_r", vmin=-1, vmax=1, extent=(-edge, edge, edge, -edge))
    for (x, y), value in zip(((1, 0), (0, 1), (2, 0), (0, 2)), (*report.lag1, *report.lag2)):
        axis.text(x, y, f"{value:.2f}", ha="center", va="center", fontsize=6.5, color=INK)
    axis.set_xlabel("distance in x (pixels)", color=INK)
    axis.set_ylabel("in y", color=INK)
    axis.tick_params(colors=MUTED)
    figure.colorbar(shown, ax=axis, shrink=0.85)


def _plot_blocks(axis: Axes, report: NoiseReport) -> None:
    """Draw up to four blocks in a square, each with the same contrast."""
    axis.set_title("flattest blocks", fontsize=10, color=MUTED, loc="left")
    side = report.flattest.shape[-1]
    canvas = np.full((2 * side + 1, 2 * side + 1), np.nan)
    for number, block in enumerate(report.flattest):
        top, left = (side + 1) * (number // 2), (side + 1) * (number % 2)
        canvas[top : top + side, left : left + side] = block
    limit = SHOWN_DEVIATIONS * max(float(report.flattest.std()), 1e-6)
    axis.imshow(canvas, cmap="gray", vmin=-limit, vmax=limit)
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    axis.set_xlabel(f"standard deviation {report.deviation:.1f} of 255", fontsize=9, color=MUTED)
