"""Train, evaluate and picture a denoiser: `train_and_evaluate`."""

import importlib.util
from pathlib import Path

from keras_dae._util.atomic import folder_to_replace, locked, remove_old, replace_folder
from keras_dae.data.load import load_dataset
from keras_dae.errors import CheckFailed, UserError
from keras_dae.runs.folder import begin, check_run_replaceable, default_name, lacks_last_step, remove_checkpoints
from keras_dae.train import workers


def train_and_evaluate(config, output_dir=None, overwrite=False, tensorboard=None, finish=None):
    """Train as `config` says, or go on with an interrupted training, and return the path of the run folder.

    It uses all GPUs, and all the workers that TF_CONFIG names, see `keras_dae.train.workers`: of these the
    chief alone writes the run; the others return None.

    The run grows in `<output_dir>.partial` and is renamed when all of it is there. Interrupted runs go on from
    the last whole epoch, with the result of an uninterrupted one.

    Args:
        config: `TrainConfig`.
        output_dir: run folder; None for `saved_models/<dataset>-<noise>-<factor>`.
        overwrite: whether a finished run there may be replaced, or an interrupted one with other options dropped.
        tensorboard: folder for TensorBoard's event files, or None.
        finish: function of the run folder and its `DatasetSplits`, called before the run is put into place, such as
            one that exports it; None for nothing. If it raises `CheckFailed`, the run is finished all the same.

    Raises:
        UserError: unusable data, a folder that is taken or cannot be written, a training that learns nothing.
    """
    worker, count = workers.place()
    if count > 1:
        workers.join()  # before anything else: whatever ends one of them now ends all
    if worker:
        return _help(config)
    if tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise UserError("--tensorboard needs TensorBoard: pip install 'keras_dae[tensorboard]'")
    run = None if output_dir is None else folder_to_replace(output_dir)
    if run and not lacks_last_step(run, config):
        check_run_replaceable(run, overwrite)
    dataset = load_dataset(config)
    run = run or folder_to_replace(Path("saved_models", default_name(config, dataset)))
    with locked(run):
        remove_old(run)
        if not lacks_last_step(run, config):
            check_run_replaceable(run, overwrite)
            _train(run, config, dataset, overwrite, tensorboard, finish)
        remove_checkpoints(run)
    return run


def _help(config):
    """Train as a worker that is not the chief: it writes nothing."""
    dataset = load_dataset(config)

    from keras_dae.train.fit import fit

    fit(config, dataset, None)


def _train(run, config, dataset, overwrite, tensorboard, finish):
    """Do all the work in `<run>.partial`, each step of which can be killed and asked for again; then rename it."""
    partial = run.with_name(run.name + ".partial")
    begin(partial, config, dataset, overwrite)

    # TensorFlow takes seconds to import: only now that nothing more can be wrong with the request.
    from keras_dae.train.fit import fit
    from keras_dae.train.results import report

    model, history = fit(config, dataset, partial / "checkpoint", tensorboard)
    report(partial, config, dataset, model, history)
    failure = None
    if finish:
        try:
            finish(partial, dataset)
        except CheckFailed as error:
            failure = error
    replace_folder(partial, run)
    if failure:
        remove_checkpoints(run)
        raise type(failure)(f"{run} is finished but for its exports: {failure}")
