"""The files of an evaluation: evaluation.json, evaluation.csv and pictures."""

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from keras_dae._util.atomic import atomic_file
from keras_dae.evaluate.ranked_images import RankedImages
from keras_dae.noise_names import describe_level
from keras_dae.report.plots import plot_psnr, plot_ranked
from keras_dae.report.text import describe_images
from keras_dae.runs.evaluation import Evaluation, write_evaluation_json


def write_evaluation(folder: Path, evaluation: Evaluation, pictures: Mapping[str, RankedImages]) -> None:
    """Write evaluation.json, evaluation.csv, psnr.png and, for each run, ranked-<run>.png.

    Args:
        folder: an existing folder.
        evaluation: what was measured.
        pictures: name of a run -> its worst, median and best images.

    Raises:
        UserError: a file cannot be written.
    """
    write_evaluation_json(folder / "evaluation.json", evaluation)
    with (
        atomic_file(folder / "evaluation.csv") as temporary,
        open(temporary, "w", newline="", encoding="utf-8") as file,
    ):
        rows = list(_csv_rows(evaluation))
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    images = describe_images(evaluation.images, evaluation.patches)
    plot_psnr(folder / "psnr.png", evaluation, f"{evaluation.dataset}, {images}, {evaluation.described_noise}")
    for run, ranked in pictures.items():
        plot_ranked(
            folder / f"ranked-{run.strip('/').replace('/', '-')}.png",
            ranked.clean,
            ranked.noisy,
            ranked.denoised,
            f"{ranked.label} on {evaluation.dataset}, {ranked.noise.describe()}",
        )


def _csv_rows(evaluation: Evaluation) -> Iterator[dict[str, Any]]:
    """Yield a row, column -> value, for each contender at each level."""
    for level in evaluation.levels:
        for result in level.results:
            row: dict[str, Any] = {"noise_factor": describe_level(level.noise_factor), "name": result.name}
            row["made_worse"] = result.made_worse
            for metric, interval in (("mse", result.mse), ("psnr", result.psnr), ("ssim", result.ssim)):
                row |= {metric: interval.mean, f"{metric}_low": interval.low, f"{metric}_high": interval.high}
            yield row
