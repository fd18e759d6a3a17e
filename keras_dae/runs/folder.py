"""The run folder: its name, its config.json, the interrupted run beside it, and whether it may be replaced."""

import os
import shutil
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_dae import __version__
from keras_dae._util.json_files import expecting, read_json, write_json
from keras_dae.config import TrainConfig
from keras_dae.errors import UserError, printable

if TYPE_CHECKING:
    from keras_dae.data.splits import DatasetSplits

CONFIG_FILE = "config.json"
CHECKPOINTS = "checkpoint"  # folder of the checkpoints of an interrupted run
RUN_FORMAT = 1  # version of config.json and of the run folder


def default_name(config: TrainConfig, dataset: "DatasetSplits") -> str:
    """Return the name of the run folder: `<dataset>-<noise>-<factor>`, or only `<dataset>` for real noise."""
    if config.has_pairs:
        return dataset.name
    return f"{dataset.name}-{'+'.join(config.noise)}-{'-'.join(f'{factor:g}' for factor in config.noise_factor)}"


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
    return os.path.isdir(run / CHECKPOINTS) and not load_config(run / CONFIG_FILE).differences(config)


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


def prepare_partial_run(partial: Path, config: TrainConfig, dataset: "DatasetSplits", overwrite: bool) -> None:
    """Create the folder of an unfinished run with its config.json, or keep it if it holds the same run, interrupted.

    Raises:
        UserError: the folder holds another interrupted run and `overwrite` is not set, or it holds something else, or
            it cannot be created.
    """
    description = run_description(config, dataset)
    config_file = partial / CONFIG_FILE
    try:
        if config_file.exists():
            before = read_json(config_file)
            with expecting(config_file):
                changed = TrainConfig.from_dict(before["config"]).differences(config)
                changed += ["the images"] * (before["dataset"]["sha256"] != dataset.sha256)
            if not changed:
                _keep_only(partial, (CONFIG_FILE, CHECKPOINTS))
                return
            if not overwrite:
                raise UserError(
                    f"{partial} is an interrupted run that differs in {', '.join(changed)}; give the same options to "
                    "continue it, --overwrite to drop it, or another --output-dir"
                )
        if partial.exists():
            _check_partial_run(partial)
            shutil.rmtree(partial)
        partial.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {partial}: {error.strerror}") from None
    write_json(config_file, description)


def _keep_only(partial: Path, names: tuple[str, ...]) -> None:
    """Remove all other files and folders: a killed process wrote them after the training, and they are written anew."""
    for path in partial.iterdir():
        if path.name not in names:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _check_partial_run(partial: Path) -> None:
    """Raise `UserError` unless a folder is an interrupted run, or was just created by a process that was killed.

    In the second case there is no config.json yet, and only hidden files.
    """
    if not (partial / CONFIG_FILE).exists() and any(not path.name.startswith(".") for path in partial.iterdir()):
        raise UserError(f"expected {partial} to be free, or an interrupted run; it is something else, move it away")


def run_description(config: TrainConfig, dataset: "DatasetSplits") -> dict[str, Any]:
    """Return the content of config.json: everything that is needed to repeat the training."""
    versions: dict[str, str | None] = {
        "keras_dae": __version__,
        "python": ".".join(map(str, sys.version_info[:3])),
    }
    for package in ("tensorflow", "keras", "numpy", "matplotlib", "pillow"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:  # a build under another name, such as tensorflow-cpu
            versions[package] = None
    return {
        "format": RUN_FORMAT,
        "config": config.to_dict(),
        "dataset": {
            "name": dataset.name,
            "sha256": dataset.sha256,
            "training_images": dataset.train_image_count,
            "validation_images": dataset.validation.image_count,
            "test_images": dataset.test.image_count,
            "image_shape": list(dataset.test.clean.shape[1:]),
            "skipped": [printable(reason) for reason in dataset.skipped],
        },
        "versions": versions,
    }


def load_config(path: str | os.PathLike, **overrides: Any) -> TrainConfig:
    """Return the `TrainConfig` in the config.json of a run.

    Args:
        path: the file.
        overrides: fields to replace. If `dataset` is among them, it also replaces real pairs.

    Raises:
        UserError: the file is missing, is not a config.json, or was written by a newer version; or a value is out of
            range.
    """
    if "dataset" in overrides:
        overrides = {"noisy_dir": None, "clean_dir": None, **overrides}
    description = read_json(path)
    run_format, values = description.get("format"), description.get("config")
    if isinstance(run_format, int) and run_format > RUN_FORMAT:
        raise UserError(
            f"{path} has format {run_format}, of a newer keras_dae; this one knows formats up to {RUN_FORMAT}: "
            "pip install --upgrade keras_dae"
        )
    if run_format != RUN_FORMAT or not isinstance(values, dict):
        raise UserError(f"expected {path} to hold a training's config in format {RUN_FORMAT}, got {run_format}")
    return TrainConfig.from_dict({**values, **overrides})
