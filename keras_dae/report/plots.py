"""The pictures of a run and of its evaluation, all of one look."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from keras_dae._util.atomic import atomic_file

INK, MUTED, FAINT = "#1f2933", "#7b8794", "#e4e7eb"
COLOURS = ("#2563eb", "#ea580c", "#059669", "#9333ea", "#db2777", "#0891b2")
DASHES = ("-", "--", ":", "-.")
STYLE = {"facecolor": "white", "layout": "constrained"}


def plot_samples(path, clean, noisy, denoised, title):
    """Write a picture of three rows: original, noisy, denoised, with each image's PSNR in dB.

    Args:
        path: the PNG file.
        clean, noisy, denoised: float32 `(n, height, width, channels)` in [0, 1], 1 to about 12 images.
        title: one line.
    """
    columns = len(clean)
    figure = Figure(figsize=(max(1.05 * columns, 4) + 0.9, 4.1), dpi=110, **STYLE)
    _image_rows(figure.subplots(3, columns, squeeze=False), clean, noisy, denoised)
    figure.suptitle(title, fontsize=11, color=INK)
    _save(figure, path)


def plot_ranked(path, clean, noisy, denoised, title):
    """Write a picture like `plot_samples` of the worst, the median and the best images, in that order, as many of each.

    Args:
        path, clean, noisy, denoised, title: as for `plot_samples`; the number of images is a multiple of 3.
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


def _image_rows(axes, clean, noisy, denoised):
    """Draw originals, noisy and denoised images into three rows of axes, with the PSNR of the latter two."""
    for row, (label, images) in enumerate((("original", clean), ("noisy", noisy), ("denoised", denoised))):
        for axis, image, original in zip(axes[row], images, clean):
            axis.imshow(np.clip(image, 0, 1).squeeze(), cmap="gray", vmin=0, vmax=1)
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
            if row:
                error = max(float(np.mean((image - original) ** 2)), 1e-10)
                axis.set_xlabel(f"{-10 * np.log10(error):.1f} dB", fontsize=8, color=MUTED, labelpad=2)
        axes[row, 0].set_ylabel(label, fontsize=11, color=INK)


def plot_loss(path, history, title):
    """Write the curves of training and validation loss (MSE, logarithmic) over the epochs.

    `history` is a list of rows `{"epoch", "loss", "val_loss", …}`.
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


def plot_psnr(path, evaluation, title):
    """Write mean PSNR against the noise level, a line a contender; as bars where there is one level.

    `evaluation` is what `keras_dae.evaluate.measure.evaluate` returns. Models are drawn in colour, with rings where
    they were trained for the level; classical methods and the noisy images in grey.
    """
    levels = evaluation["levels"]
    rows = list(zip(*(level["results"] for level in levels)))  # one contender each
    styles = _contender_styles([row[0]["kind"] for row in rows])
    if len(levels) == 1:
        figure = Figure(figsize=(6.8, 1.3 + 0.36 * len(rows)), dpi=110, **STYLE)
        axis = figure.subplots()
        values = [row[0]["psnr"]["mean"] for row in rows]
        bars = axis.barh([row[0]["name"] for row in rows], values, color=[color for color, _ in styles], height=0.62)
        axis.bar_label(bars, fmt="%.2f", padding=4, fontsize=9, color=INK)
        axis.invert_yaxis()
        axis.set_xlim(0, 1.1 * max(values))
        _finish(axis, "mean PSNR (dB)", "", title, grid="x")
    else:
        figure = Figure(figsize=(7.6, 4.6), dpi=110, **STYLE)
        axis = figure.subplots()
        factors = [level["noise_factor"][0] for level in levels]
        for row, (color, dashes) in zip(rows, styles):
            values = [result["psnr"]["mean"] for result in row]
            axis.plot(factors, values, dashes, color=color, label=row[0]["name"], marker="o", markersize=3)
            trained = [(f, v) for f, v, result in zip(factors, values, row) if result.get("trained_for_this")]
            if trained:
                axis.plot(*zip(*trained), "o", color=color, markersize=9, fillstyle="none")
        _finish(axis, "noise factor", "mean PSNR (dB)", title)
        axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1), title="○ trained for")
    _save(figure, path)


def _contender_styles(kinds):
    """Return `(colour, dashes)` for each contender: models in colours, the rest in grey with dashes of their own."""
    models, others = iter(COLOURS * len(kinds)), iter(DASHES * len(kinds))
    return [(next(models), "-") if kind == "model" else (MUTED, next(others)) for kind in kinds]


def _finish(axis, xlabel, ylabel, title, grid="both"):
    axis.set_xlabel(xlabel, color=INK)
    axis.set_ylabel(ylabel, color=INK)
    axis.set_title(title, fontsize=11, color=INK)
    axis.grid(True, which="both", axis=grid, color=FAINT, linewidth=0.6)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(colors=MUTED, which="both")


def _save(figure, path):
    with atomic_file(path) as temporary:
        figure.savefig(temporary)
