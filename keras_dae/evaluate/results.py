"""What `keras_dae.evaluate` leaves behind: evaluation.json, evaluation.csv and pictures."""

import csv

from keras_dae._util.atomic import atomic_file
from keras_dae._util.json_files import write_json
from keras_dae.errors import UserError
from keras_dae.report.plots import plot_psnr, plot_ranked
from keras_dae.report.text import METRICS, images_name, level_name, noise_name


def write_evaluation(folder, evaluation, pictures):
    """Write evaluation.json, evaluation.csv, psnr.png and, for each run, ranked-<run>.png into `folder`.

    Args:
        folder: path, made if need be.
        evaluation: see `keras_dae.evaluate.measure.evaluate`.
        pictures: run -> `{"clean", "noisy", "denoised", "config", "name"}`, the images being worst, median and best.

    Raises:
        UserError: a file cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {folder}: {error.strerror}") from None
    write_json(folder / "evaluation.json", evaluation)
    with (
        atomic_file(folder / "evaluation.csv") as temporary,
        open(temporary, "w", newline="", encoding="utf-8") as file,
    ):
        rows = list(_flat(evaluation))
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    title = f"{evaluation['dataset']}, {images_name(evaluation)}, {noise_name(evaluation)}"
    plot_psnr(folder / "psnr.png", evaluation, title)
    for run, images in pictures.items():
        level = level_name(None if images["config"].has_pairs else images["config"].noise_factor)
        plot_ranked(
            folder / f"ranked-{run.strip('/').replace('/', '-')}.png",
            images["clean"],
            images["noisy"],
            images["denoised"],
            f"{images['name']} on {evaluation['dataset']}, {noise_name(evaluation)} {level}".strip(),
        )


def _flat(evaluation):
    for level in evaluation["levels"]:
        for row in level["results"]:
            flat = {
                f"{m}{s}": row[m][k] for m in METRICS for s, k in (("", "mean"), ("_low", "low"), ("_high", "high"))
            }
            factor = level_name(level["noise_factor"])
            yield {"noise_factor": factor, "name": row["name"], "made_worse": row["made_worse"], **flat}
