"""The whole of a training run, from the config to the finished run folder: `train_and_evaluate`."""

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path

from keras_dae._util.atomic import folder_to_replace, locked, replace_folder, restore_old
from keras_dae._util.process_state import unchanged_process_state
from keras_dae.config import TrainConfig
from keras_dae.data.load import load_dataset
from keras_dae.data.splits import DatasetSplits
from keras_dae.errors import CheckFailed, UserError
from keras_dae.runs.folder import check_run_replaceable, default_name, needs_only_cleanup, remove_checkpoints
from keras_dae.runs.partial_run import prepare_partial_run, record_conditions
from keras_dae.train import workers


@unchanged_process_state()
def train_and_evaluate(
    config: TrainConfig,
    output_dir: str | os.PathLike | None = None,
    overwrite: bool = False,
    tensorboard: str | os.PathLike | None = None,
    finish: Callable[[Path, DatasetSplits], None] | None = None,
    *,
    resume_anyway: bool = False,
    set_up_tensorflow: bool = False,
) -> Path | None:
    """Train, measure the result on noisy test images, and return the path of the run folder.

    The run is written to `<output_dir>.partial`, and renamed when it is complete. If it is interrupted, the same call
    continues after the last finished epoch, and the result is the same as without the interruption. It is continued
    only with the same images, options and versions of packages.

    It uses all GPUs, and all workers that TF_CONFIG names (see `keras_dae.train.workers`). Then only the chief writes
    the run, and the others return None.

    Args:
        config: all options of the training.
        output_dir: run folder; None for `saved_models/<dataset>-[<network>-]<noise>-<factor>`.
        overwrite: whether to replace a finished run there, or to drop an interrupted run with other options.
        tensorboard: folder for TensorBoard's event files, or None.
        finish: called with the run folder and the images before the run is renamed, for example to export the run. If
            it raises `CheckFailed`, the run is finished nevertheless, and the error is raised after that.
        resume_anyway: whether to continue an interrupted run that other versions of packages, or another number of
            workers or of threads per operation, began. config.json and the model card then say so.
        set_up_tensorflow: whether to set TensorFlow up for the whole process as the command does, see
            `keras_dae.train.process.set_up_tensorflow`. This gives the command's bits and speed, and cannot be undone.
            Without it, the process is left as it was, except for
            `keras_dae._util.memory.keep_freed_memory`, which undoes what TensorFlow tells the C library.

    Raises:
        UserError: the images are unusable, the folder is taken or cannot be written, or the training learns nothing.

    Example::

        from keras_dae import TrainConfig, train_and_evaluate

        run = train_and_evaluate(TrainConfig.from_recipe("quick"), "saved_models/quick")
        (run / "metrics.json").read_text()
    """
    rank, worker_count = workers.rank_and_count()
    if worker_count > 1:
        if set_up_tensorflow:
            from keras_dae.train import process

            process.set_up_tensorflow()
        # First of all: once they have joined, an error on one worker ends all of them.
        workers.join_cluster(workers.JOIN_TIMEOUT)
    if rank:
        _train_without_writing(config)
        return None
    if tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise UserError("--tensorboard needs TensorBoard: pip install 'keras_dae[tensorboard]'")
    run = None if output_dir is None else folder_to_replace(output_dir)
    if run and not needs_only_cleanup(run, config):
        check_run_replaceable(run, overwrite)
    dataset = load_dataset(config)
    run = run or folder_to_replace(Path("saved_models", default_name(config, dataset)))
    with locked(run):
        restore_old(run)
        if not needs_only_cleanup(run, config):
            check_run_replaceable(run, overwrite)
            partial = run.with_name(run.name + ".partial")
            prepare_partial_run(partial, config, dataset, overwrite, resume_anyway)
            # Importing TensorFlow takes seconds, so everything that can be wrong with the request is checked before.
            from keras_dae.train import fit, process

            if set_up_tensorflow:
                process.set_up_tensorflow()
            record_conditions(partial, fit.conditions(config, dataset), overwrite, resume_anyway)
            _write_run(run, partial, config, dataset, tensorboard, finish)
        remove_checkpoints(run)
    return run


def _train_without_writing(config: TrainConfig) -> None:
    """Train as a worker that is not the chief."""
    dataset = load_dataset(config)

    from keras_dae.train.fit import fit

    fit(config, dataset, None)


def _write_run(
    run: Path,
    partial: Path,
    config: TrainConfig,
    dataset: DatasetSplits,
    tensorboard: str | os.PathLike | None,
    finish: Callable[[Path, DatasetSplits], None] | None,
) -> None:
    """Do all the work in `partial`, then rename it to `run`. After a kill, the same call continues from there."""
    from keras_dae.train.fit import fit
    from keras_dae.train.results import write_results

    model, history = fit(config, dataset, partial / "checkpoint", tensorboard)
    write_results(partial, config, dataset, model, history)
    failure = None
    if finish:
        try:
            finish(partial, dataset)
        except CheckFailed as error:
            failure = error
    replace_folder(partial, run)
    if failure:
        remove_checkpoints(run)
        raise type(failure)(f"{run} is finished, except for its exports: {failure}")
