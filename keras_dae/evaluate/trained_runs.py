"""What run folders say about their own training: names, noise and images."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_dae._util.json_files import expecting, read_json
from keras_dae.config import TrainConfig
from keras_dae.data.splits import DatasetSplits
from keras_dae.errors import UserError
from keras_dae.runs.folder import load_config
from keras_dae.runs.noise_setting import NoiseSetting

PathLike = str | os.PathLike


def evaluation_config(run: PathLike, overrides: dict[str, Any]) -> TrainConfig:
    """Return the config of a run with some fields replaced: it says which images and noise to measure with.

    Imported weights have no config; they get the defaults.
    """
    if _is_imported(run):
        return TrainConfig(**overrides)
    return load_config(Path(run, "config.json"), **overrides)


def trained_noise(run: PathLike) -> NoiseSetting | None:
    """Return the noise that a run was trained for; None for imported weights, where it is unknown."""
    return None if _is_imported(run) else NoiseSetting.of(load_config(Path(run, "config.json")))


def check_unseen(run: PathLike, config: TrainConfig, dataset: DatasetSplits) -> None:
    """Raise `UserError` if a run was trained on the same folder or file, and its images have changed since then.

    The split into training and test images depends on all images. After a change, some test images may have been
    trained on.
    """
    if _is_imported(run):
        return
    file = Path(run, "config.json")
    trained = load_config(file)
    with expecting(file):
        name, sha256 = (read_json(file)["dataset"][key] for key in ("name", "sha256"))
    places = [[os.path.abspath(c.dataset), c.noisy_dir, c.clean_dir, c.channels] for c in (trained, config)]
    if places[0] == places[1] and name == dataset.name and sha256 != dataset.sha256:
        raise UserError(
            f"the images in {dataset.name} have changed since {run} was trained, so that it may have been trained on "
            "some of the test images; restore the images, or choose others with --dataset"
        )


def distinct_names(folders: Sequence[PathLike]) -> list[str]:
    """Return the name of each folder, with as many parents in front as it takes to tell it from the other folders.

    Example:
        >>> distinct_names(["/first/run", "/second/run", "/second/other"])
        ['first/run', 'second/run', 'other']
    """
    paths = [Path(folder).resolve().parts for folder in folders]

    def distinct_name(path: tuple[str, ...]) -> str:
        for count in range(1, len(path)):
            if all(other[-count:] != path[-count:] for other in paths if other != path):
                return "/".join(path[-count:])
        return "/".join(path)

    return [distinct_name(path) for path in paths]


def _is_imported(run: PathLike) -> bool:
    """Return whether the weights were imported from PyTorch, so that nothing is known about the training."""
    return "imported" in read_json(Path(run, "config.json"))
