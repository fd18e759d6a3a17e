"""The interrupted run beside a run folder, `<run>.partial`: whether a training may continue it, and under what."""

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_dae._util.json_files import expecting, read_json, write_json
from keras_dae.config import TrainConfig
from keras_dae.errors import UserError
from keras_dae.runs.folder import CHECKPOINTS, CONFIG_FILE, given_config, remove_checkpoints, run_description
from keras_dae.runs.image_list import IMAGES_FILE, write_image_list

if TYPE_CHECKING:
    from keras_dae.data.splits import DatasetSplits

WITHOUT_INFLUENCE = ("python", "matplotlib")  # recorded versions that do not change the weights
RESUME_ANYWAY = "--resume-anyway to continue it nevertheless, but not bit for bit"
START_ANEW = "--overwrite to drop it, or another --output-dir"


def prepare_partial_run(
    partial: Path, config: TrainConfig, dataset: "DatasetSplits", overwrite: bool, resume_anyway: bool = False
) -> None:
    """Create the folder of an unfinished run with its config.json, or keep it if it holds the same run, interrupted.

    Args:
        partial: the folder.
        config: all options of the training.
        dataset: its images.
        overwrite: whether to drop an interrupted run that cannot be continued.
        resume_anyway: whether to continue a run that other versions of packages began. config.json then lists the
            versions before in `earlier_versions`.

    Raises:
        UserError: the folder holds another interrupted run, or one of other versions, and neither `overwrite` nor
            `resume_anyway` allows it; or it holds something else, or it cannot be created.
    """
    description = run_description(config, dataset)
    try:
        if os.path.lexists(partial / CONFIG_FILE):
            before, problem = _interrupted_run(partial / CONFIG_FILE, config, dataset)
            if not problem and has_checkpoints(partial) and not resume_anyway:
                problem = _other_versions(before["versions"], description["versions"])
            if not problem:
                _keep_only(partial, (CONFIG_FILE, IMAGES_FILE, CHECKPOINTS))
                if has_checkpoints(partial):
                    description = _continued(before, description["versions"])
                if description != before:
                    write_json(partial / CONFIG_FILE, description)
                return
            if not overwrite:
                raise UserError(f"{partial} is an interrupted run {problem}{START_ANEW}")
        if os.path.lexists(partial):
            _check_partial_run(partial)
            shutil.rmtree(partial)
        partial.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {partial}: {error.strerror}") from None
    write_image_list(partial, dataset.list_images())
    write_json(partial / CONFIG_FILE, description)


def record_conditions(
    partial: Path, conditions: dict[str, Any], overwrite: bool = False, resume_anyway: bool = False
) -> None:
    """Add `conditions` to the config.json of an unfinished run: what else its bits depend on.

    Args:
        partial: the folder, see `prepare_partial_run`.
        conditions: name -> value that JSON can store, such as the number of workers.
        overwrite: whether to drop the checkpoints of a run that began under other conditions.
        resume_anyway: whether to continue it. config.json then lists the conditions before in `earlier_conditions`.

    Raises:
        UserError: the run began under other conditions, and neither `overwrite` nor `resume_anyway` allows it.
    """
    description = read_json(partial / CONFIG_FILE)
    before = description.get("conditions", conditions)
    changed = [name for name in conditions if before.get(name, conditions[name]) != conditions[name]]
    if changed and has_checkpoints(partial):
        if resume_anyway:
            description["earlier_conditions"] = [*description.get("earlier_conditions", ()), before]
        elif overwrite:
            remove_checkpoints(partial)
        else:
            began, here = (_in_words(values, changed) for values in (before, conditions))
            raise UserError(
                f"{partial} is an interrupted run that began with {began}; here it is {here}; give the same, "
                f"{RESUME_ANYWAY}, {START_ANEW}"
            )
    if description.get("conditions") != conditions:
        write_json(partial / CONFIG_FILE, {**description, "conditions": conditions})


def has_checkpoints(partial: Path) -> bool:
    """Return whether an interrupted run has finished an epoch."""
    return any(partial.glob(f"{CHECKPOINTS}/epoch-*"))


def _interrupted_run(config_file: Path, config: TrainConfig, dataset: "DatasetSplits") -> tuple[dict[str, Any], str]:
    """Return the content of an interrupted run's config.json, and what keeps it from being continued; "" if nothing."""
    try:
        before = read_json(config_file)
        with expecting(config_file):
            changed = given_config(config_file, before).differences(config)
            changed += ["the images"] * (before["dataset"]["sha256"] != dataset.sha256)
            dict.keys(before["versions"])
    except UserError as error:
        return {}, f"whose config.json is damaged ({error}); give "
    return (
        before,
        f"that differs in {', '.join(changed)}; give the same options and images to continue it, " if changed else "",
    )


def _other_versions(before: dict[str, str | None], now: dict[str, str | None]) -> str:
    """Return what keeps a run of other versions from being continued; "" if they do not change its bits."""
    names = [name for name in before if name not in WITHOUT_INFLUENCE and before[name] != now.get(name)]
    if not names:
        return ""
    began, here = (_in_words(versions, names) for versions in (before, now))
    return f"that began with {began}; here it is {here}; give the same versions, {RESUME_ANYWAY}, "


def _in_words(values: dict[str, Any], names: list[str]) -> str:
    return ", ".join(f"{name} {values.get(name)}" for name in names)


def _continued(before: dict[str, Any], versions: dict[str, str | None]) -> dict[str, Any]:
    """Return the content of config.json of an interrupted run that is continued with these versions."""
    if before["versions"] == versions:
        return before
    earlier = [*before.get("earlier_versions", ()), before["versions"]]
    return {**before, "versions": versions, "earlier_versions": earlier}


def _keep_only(partial: Path, names: tuple[str, ...]) -> None:
    """Remove all other files and folders: a killed process wrote them after the training, and they are written anew."""
    for path in partial.iterdir():
        if path.name not in names:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _check_partial_run(partial: Path) -> None:
    """Raise `UserError` unless a folder is an interrupted run, or was just created by a process that was killed.

    In the second case there is no config.json yet, and only hidden files and images.csv.
    """
    names = {path.name for path in partial.iterdir()}
    if CONFIG_FILE not in names and any(not name.startswith(".") for name in names - {IMAGES_FILE}):
        raise UserError(f"expected {partial} to be free, or an interrupted run; it is something else, move it away")
