"""The pictures of a run: samples.png and loss.png."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from keras_dae.files import whole_file

INK, MUTED = "#1f2933", "#7b8794"
COLOURS = ("#2563eb", "#ea580c")
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
    axes = figure.subplots(3, columns, squeeze=False)
    for row, (label, images) in enumerate((("original", clean), ("noisy", noisy), ("denoised", denoised))):
        for axis, image, original in zip(axes[row], images, clean):
            axis.imshow(np.clip(image, 0, 1).squeeze(), cmap="gray", vmin=0, vmax=1)
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
            if row:
                error = max(float(np.mean((image - original) ** 2)), 1e-10)
                axis.set_xlabel(f"{-10 * np.log10(error):.1f} dB", fontsize=8, color=MUTED, labelpad=2)
        axes[row, 0].set_ylabel(label, fontsize=11, color=INK)
    figure.suptitle(title, fontsize=11, color=INK)
    _save(figure, path)


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
    axis.set_xlabel("epoch", color=INK)
    axis.set_ylabel("mean squared error", color=INK)
    axis.set_title(title, fontsize=11, color=INK)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(True, which="both", color="#e4e7eb", linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(colors=MUTED, which="both")
    axis.legend(frameon=False)
    _save(figure, path)


def _save(figure, path):
    with whole_file(path) as temporary:
        figure.savefig(temporary)
