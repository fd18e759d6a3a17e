"""What run folders say about their own training: names, noise and images."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_dae._util.json_files import expecting, read_json
from keras_dae.config import DATASETS, TrainConfig
from keras_dae.data.load import load_dataset
from keras_dae.data.splits import DatasetSplits
from keras_dae.errors import UserError, printable
from keras_dae.runs.folder import load_config
from keras_dae.runs.image_list import read_image_hashes
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
    """Raise `UserError` if a run was trained on some of the test images of a dataset, wherever they are.

    A line on stderr says if a folder that the run was trained on has other test images since then. Images are compared
    by their content. A run of keras_dae 0.1.0 does not list its images, so they are loaded again.
    If that fails, a line on stderr says that nothing is known.

    Args:
        run: run folder.
        config: what the dataset was loaded with.
        dataset: the images to measure on.
    """
    if _is_imported(run):
        return
    hashes = read_image_hashes(run) or _loaded_hashes(run, config, dataset)
    learned = hashes["train"] | hashes["validation"]
    tested = [image.hashes for image in dataset.list_images() if image.split == "test"]
    # A file may have the same image in x_train and x_test; its training has said so.
    if seen := sum(bool(image & learned) and not image & hashes["test"] for image in tested):
        raise UserError(
            f"{seen:,} of the {len(tested):,} test images in {dataset.name} were used to train {run}; choose images "
            "that are new to it with --dataset"
        )
    if hashes["test"] and load_config(Path(run, "config.json")).places == config.places:
        found = set().union(*tested)
        if added := sum(not image & hashes["test"] for image in tested):
            change = f"{added:,} of the {len(tested):,} test images in {dataset.name} are new"
        elif config.limit is None and not hashes["test"] <= found:
            change = f"test images in {dataset.name} are gone"
        else:
            return
        print(f"{change} since {printable(run)} was trained, so that its own figures are of others", file=sys.stderr)


def _loaded_hashes(run: PathLike, config: TrainConfig, dataset: DatasetSplits) -> dict[str, set[str]]:
    """Return what `read_image_hashes` returns, for a run without such a list; all empty if it is not known or clear."""
    hashes: dict[str, set[str]] = {"train": set(), "validation": set(), "test": set()}
    file = Path(run, "config.json")
    trained = load_config(file)
    with expecting(file):
        name, sha256 = (read_json(file)["dataset"][key] for key in ("name", "sha256"))
    if sha256 == dataset.sha256 or trained.places[0] in DATASETS:  # with test images of its own
        return hashes
    if trained.places == config.places and trained.channels == config.channels and name == dataset.name:
        raise UserError(
            f"the images in {dataset.name} have changed since {run} was trained, or are read differently, so that it "
            "may have been trained on some of the test images; restore the images, or choose others with --dataset"
        )
    try:
        before = load_dataset(trained)
    except UserError:
        before = None
    if before is None or before.sha256 != sha256:
        print(
            f"{printable(run)}: the images that it was trained on are no longer there, so that some of the test images "
            "may be among them",
            file=sys.stderr,
        )
        return hashes
    for image in before.list_images():
        if image.split in hashes:
            hashes[image.split] |= image.hashes
    return hashes


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
