"""The file images.csv of a run: which images it was trained on, by hashes of their content."""

import csv
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from keras_dae._util.atomic import atomic_file
from keras_dae._util.json_files import expecting, read_json
from keras_dae.errors import UserError

if TYPE_CHECKING:
    from keras_dae.data.splits import ImageRecord

IMAGES_FILE = "images.csv"
SINGLE_COLUMNS = ("split", "name", "sha256", "pixels")
PAIR_COLUMNS = ("noisy_name", "noisy_sha256", "noisy_pixels")
OTHER_HASHES = ("sha256", "noisy_sha256", "noisy_pixels")


def write_image_list(run: str | os.PathLike, records: Iterable["ImageRecord"]) -> None:
    """Write images.csv atomically, one row for each image or pair. Raises `UserError` if it cannot be written."""
    rows = list(records)
    columns = (*SINGLE_COLUMNS, *(PAIR_COLUMNS if any(row.noisy_name for row in rows) else ()))
    with (
        atomic_file(Path(run, IMAGES_FILE)) as temporary,
        open(temporary, "w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(row[: len(columns)] for row in rows)


def read_image_hashes(run: str | os.PathLike) -> dict[str, set[str]] | None:
    """Return the hashes of the images in each split of a run; None for a run of keras_dae 0.1.0, which has no list.

    Raises:
        UserError: the file cannot be read, its content is not as `write_image_list` writes it, or rows are missing.
    """
    path = Path(run, IMAGES_FILE)
    hashes: dict[str, set[str]] = {"train": set(), "validation": set(), "test": set(), "unused": set()}
    learned = 0
    try:
        with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file, expecting(path):
            for row in csv.DictReader(file, strict=True):
                learned += row["split"] in ("train", "validation")
                hashes[row["split"]].update([row["pixels"], *(row[name] for name in OTHER_HASHES if row.get(name))])
    except FileNotFoundError:
        return None
    except (OSError, csv.Error) as error:
        raise UserError(f"cannot read {path}: {error}") from None
    about = read_json(Path(run, "config.json"))
    with expecting(Path(run, "config.json")):
        expected = about["dataset"]["training_images"] + about["dataset"]["validation_images"]
    if learned != expected:
        raise UserError(f"expected {expected} training and validation images in {path}, got {learned}: it is damaged")
    return hashes
