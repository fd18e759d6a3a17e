"""The run folder: its name, its config.json, and whether it may be replaced."""

import os
import shutil
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_dae import __version__
from keras_dae._util.json_files import expecting, read_json
from keras_dae.config import TrainConfig
from keras_dae.errors import UserError, printable
from keras_dae.images.brightness import brightness

if TYPE_CHECKING:
    from keras_dae.data.splits import DatasetSplits

CONFIG_FILE = "config.json"
CHECKPOINTS = "checkpoint"  # folder of the checkpoints of an interrupted run
# Version of config.json and of the run folder. Format 1, of keras_dae 0.1.0, had no images.csv. It divided folders by
# the number of files, and 16-bit images by 65535.
RUN_FORMAT = 2
FORMAT_1 = {"split": "count", "white": "type"}


def default_name(config: TrainConfig, dataset: "DatasetSplits") -> str:
    """Return the name of the run folder: `<dataset>-<noise>-<factor>`, or only `<dataset>` for real noise.

    After the dataset comes the network, if it is not the autoencoder.
    """
    name = dataset.name if config.network == "autoencoder" else f"{dataset.name}-{config.network}"
    if config.has_pairs:
        return name
    return f"{name}-{'+'.join(config.noise)}-{'-'.join(f'{factor:g}' for factor in config.noise_factor)}"


def check_replaceable(folder: Path, kind: str, is_kind: Callable[[Path], bool], overwrite: bool) -> None:
    """Raise `UserError` unless `folder` may be created or replaced.

    It may be created if it does not exist or is empty. It may be replaced if it is of the same kind and `overwrite` is
    set.

    Args:
        folder: the folder that is to be written as a whole.
        kind: what it will hold, in words, such as "a finished run".
        is_kind: takes the path of a folder, and returns whether the folder holds that already.
        overwrite: whether the user allows replacing it.

    Raises:
        UserError: the folder holds something else, or it holds this and `overwrite` is not set, or it cannot be read.
    """
    try:
        if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
            return
        if not is_kind(folder):
            raise UserError(
                f"expected --output-dir to be a new folder or {kind}, got {folder}, which is something else"
            )
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror}") from None
    if not overwrite:
        raise UserError(f"{folder} holds {kind}; give --overwrite to replace it, or another --output-dir")


def check_run_replaceable(run: Path, overwrite: bool) -> None:
    """Raise `UserError` if `run` exists and must not be replaced by another run; see `check_replaceable`."""
    check_replaceable(run, "a finished run", lambda folder: (folder / CONFIG_FILE).is_file(), overwrite)


def needs_only_cleanup(run: Path, config: TrainConfig) -> bool:
    """Return whether `run` is this training, finished except for `remove_checkpoints`."""
    file = run / CONFIG_FILE
    try:
        return os.path.isdir(run / CHECKPOINTS) and not given_config(file, read_json(file)).differences(config)
    except UserError:  # a damaged config.json: the run can only be replaced
        return False


def remove_checkpoints(run: Path) -> None:
    """Remove the checkpoints of a finished run.

    This is the last step of a training: until the run has its final name, they may still be needed to continue it.

    Raises:
        UserError: they cannot be removed.
    """
    try:
        shutil.rmtree(run / CHECKPOINTS)
    except OSError as error:
        raise UserError(f"{run} is finished, but its checkpoint could not be removed: {error.strerror}") from None


def run_description(config: TrainConfig, dataset: "DatasetSplits") -> dict[str, Any]:
    """Return the content of config.json: everything that is needed to repeat the training, from any current folder."""
    versions: dict[str, str | None] = {
        "keras_dae": __version__,
        "python": ".".join(map(str, sys.version_info[:3])),
    }
    for package in ("tensorflow", "keras", "numpy", "matplotlib", "pillow", "tifffile"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:  # a build under another name, such as tensorflow-cpu
            versions[package] = None
    return {
        "format": RUN_FORMAT,
        "config": config.with_absolute_paths().to_dict(),
        "dataset": {
            "name": dataset.name,
            "sha256": dataset.sha256,
            "training_images": dataset.train_image_count,
            "validation_images": dataset.validation.image_count,
            "test_images": dataset.test.image_count,
            "image_shape": list(dataset.test.clean.shape[1:]),
            "brightness": None if dataset.test.patch_count is not None else list(brightness(dataset.test.clean)),
            "white": dataset.white,
            "skipped": [printable(reason) for reason in dataset.skipped],
        },
        "versions": versions,
    }


def load_config(path: str | os.PathLike, **overrides: Any) -> TrainConfig:
    """Return the `TrainConfig` in the config.json of a run.

    The white is the number that was measured for the training, if it was.

    Args:
        path: the file.
        overrides: fields to replace. If they name other images, these are divided and scaled as in a new training. If
            `dataset` is among them, it also replaces real pairs.

    Raises:
        UserError: the file is missing, is not a config.json, or was written by a newer version; or a value is out of
            range.
    """
    description = read_json(path)
    given = given_config(path, description)
    with expecting(path):
        measured = description.get("dataset", {}).get("white")
    pairs = {"noisy_dir": None, "clean_dir": None} if "dataset" in overrides else {}
    config = TrainConfig.from_dict({**given.to_dict(), **pairs, **overrides})
    if config.places == given.places:
        before = {"white": measured} if given.white == "auto" and measured is not None else {}
    else:
        before = {"split": "hash", "white": "auto" if description["format"] == 1 else given.white}
    return TrainConfig.from_dict({**config.to_dict(), **before, **overrides})


def given_config(path: str | os.PathLike, description: dict[str, Any]) -> TrainConfig:
    """Return the `TrainConfig` in the content of a config.json, as the training got it. Raises `UserError`."""
    run_format, values = description.get("format"), description.get("config")
    if isinstance(run_format, int) and run_format > RUN_FORMAT:
        raise UserError(
            f"{path} has format {run_format}, of a newer keras_dae; this one knows formats up to {RUN_FORMAT}: "
            "pip install --upgrade keras_dae"
        )
    if run_format not in range(1, RUN_FORMAT + 1):
        raise UserError(f"expected {path} to hold a training's config in format 1 to {RUN_FORMAT}, got {run_format}")
    if not isinstance(values, dict):
        raise UserError(f"expected {path} to hold a training's options as `config`, got {values!r:.50}")
    return TrainConfig.from_dict({**(FORMAT_1 if run_format == 1 else {}), **values})
