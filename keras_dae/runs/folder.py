"""The run folder's beginning: its name, its config.json, and whether it may be written at all."""

import os
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version

from keras_dae import __version__
from keras_dae._util.json_files import expecting, read_json, write_json
from keras_dae.config import TrainConfig
from keras_dae.errors import UserError, printable

CONFIG = "config.json"
FORMAT = 1  # of config.json and the run folder


def default_name(config, dataset):
    """Return the run folder's name: `<dataset>-<noise>-<factor>`, or the pairs' name where the noise is real."""
    if config.has_pairs:
        return dataset.name
    return f"{dataset.name}-{'+'.join(config.noise)}-{'-'.join(f'{factor:g}' for factor in config.noise_factor)}"


def check_replaceable(folder, kind, is_kind, overwrite):
    """Raise `UserError` unless `folder` may be made, or replaced if it is there.

    A folder may be made where nothing is there, or an empty folder. It may be replaced if it is of the same kind and
    `overwrite` is set.

    Args:
        folder: Path of the folder that is to be written as a whole.
        kind: what it will hold, in words, such as "a finished run".
        is_kind: function from the path of a folder to whether it holds that already.
        overwrite: whether the user allowed to replace it.

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


def check_run_replaceable(run, overwrite):
    """Raise `UserError` when `run` is there and may not be replaced by another run."""
    check_replaceable(run, "a finished run", lambda folder: (folder / CONFIG).is_file(), overwrite)


def lacks_last_step(run, config):
    """Return whether `run` is this training, killed when all but `remove_checkpoints` was done."""
    return os.path.isdir(run / "checkpoint") and not load_config(run / "config.json").differences(config)


def remove_checkpoints(run):
    """Remove what only going on with a training needs. Raises `UserError` when it cannot be removed.

    The last step of all: until the run stands, everything could still be asked for again.
    """
    try:
        shutil.rmtree(run / "checkpoint")
    except OSError as error:
        raise UserError(f"{run} is finished, but its checkpoint could not be removed: {error.strerror}") from None


def begin(partial, config, dataset, overwrite):
    """Make the working folder with its config.json, or check that the interrupted run in it is the same one.

    Raises `UserError` when it is another one and `overwrite` is not set, or the folder cannot be made.
    """
    description = describe(config, dataset)
    try:
        if (partial / "config.json").exists():
            before = read_json(partial / "config.json")
            with expecting(partial / "config.json"):
                changed = TrainConfig.from_dict(before["config"]).differences(config)
                changed += ["the images"] * (before["dataset"]["sha256"] != dataset.sha256)
            if not changed:
                _keep_only(partial, ("config.json", "checkpoint"))
                return
            if not overwrite:
                raise UserError(
                    f"{partial} is an interrupted run that differs in {', '.join(changed)}; give the same options to "
                    "go on with it, --overwrite to drop it, or another --output-dir"
                )
        if partial.exists():
            _check_it_is_ours(partial)
            shutil.rmtree(partial)
        partial.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {partial}: {error.strerror}") from None
    write_json(partial / "config.json", description)


def _keep_only(partial, names):
    """Remove what a killed attempt wrote after the training; it is written anew."""
    for path in partial.iterdir():
        if path.name not in names:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _check_it_is_ours(partial):
    """Raise `UserError` when a folder without config.json holds more than what a killed beginning leaves."""
    if not (partial / "config.json").exists() and any(not path.name.startswith(".") for path in partial.iterdir()):
        raise UserError(f"expected {partial} to be free, or an interrupted run; it is something else, move it away")


def describe(config, dataset):
    """Return what config.json holds: all that is needed to train the same again."""
    versions = {"keras_dae": __version__, "python": ".".join(map(str, sys.version_info[:3]))}
    for package in ("tensorflow", "keras", "numpy", "matplotlib", "pillow"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:  # a build under another name, such as tensorflow-cpu
            versions[package] = None
    return {
        "format": FORMAT,
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


def load_config(path, **overrides):
    """Return the `TrainConfig` in a run's config.json, some fields replaced. Raises `UserError` if it holds none.

    Another `dataset` takes the place of real pairs, too.
    """
    if "dataset" in overrides:
        overrides = {"noisy_dir": None, "clean_dir": None, **overrides}
    about = read_json(path)
    if isinstance(about.get("format"), int) and about["format"] > FORMAT:
        raise UserError(
            f"{path} has format {about['format']}, of a newer keras_dae; this one knows formats up to {FORMAT}: "
            "pip install --upgrade keras_dae"
        )
    if about.get("format") != FORMAT or not isinstance(about.get("config"), dict):
        raise UserError(f"expected {path} to hold a training's config in format {FORMAT}, got {about.get('format')}")
    return TrainConfig.from_dict({**about["config"], **overrides})
