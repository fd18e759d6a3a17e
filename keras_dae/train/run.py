"""Train, evaluate and picture a denoiser: `python -m keras_dae.train`."""

import argparse
import importlib.util
import os
import signal
import sys
from pathlib import Path

from keras_dae import errors, workers
from keras_dae.config import RECIPES, TrainConfig
from keras_dae.data import NAMES, load_dataset
from keras_dae.errors import UserError
from keras_dae.files import locked, place_of, put_folder_in_place, remove_old
from keras_dae.names import INITIALIZATIONS, NOISES, SCHEDULES
from keras_dae.run_folder import begin, check_target, default_name, lacks_last_step, load_config, remove_checkpoints


def train_and_evaluate(config, output_dir=None, overwrite=False, tensorboard=None, export=False):
    """Train as `config` says, or go on with an interrupted training, and return the path of the run folder.

    It uses all GPUs, and all the workers that TF_CONFIG names, see `keras_dae.workers`: of these the chief alone writes
    the run; the others return None.

    The run grows in `<output_dir>.partial` and is renamed when all of it is there. Interrupted runs go on from
    the last whole epoch, with the result of an uninterrupted one.

    Args:
        config: `TrainConfig`.
        output_dir: run folder; None for `saved_models/<dataset>-<noise>-<factor>`.
        overwrite: whether a finished run there may be replaced, or an interrupted one with other options dropped.
        tensorboard: folder for TensorBoard's event files, or None.
        export: whether to write and prove SavedModel and ONNX too, see `export.export_run`.

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
    run = None if output_dir is None else place_of(output_dir)
    if run and not lacks_last_step(run, config):
        check_target(run, overwrite)
    dataset = load_dataset(config)
    run = run or place_of(Path("saved_models", default_name(config, dataset)))
    with locked(run):
        remove_old(run)
        if not lacks_last_step(run, config):
            check_target(run, overwrite)
            _train(run, config, dataset, overwrite, tensorboard, export)
        remove_checkpoints(run)
    return run


def _help(config):
    """Train as a worker that is not the chief: it writes nothing."""
    dataset = load_dataset(config)

    from keras_dae.fit import fit

    fit(config, dataset, None)


def _train(run, config, dataset, overwrite, tensorboard, export):
    """Do all the work in `<run>.partial`, each step of which can be killed and asked for again; then rename it."""
    partial = run.with_name(run.name + ".partial")
    begin(partial, config, dataset, overwrite)

    # TensorFlow takes seconds to import: only now that nothing more can be wrong with the request.
    from keras_dae.fit import fit
    from keras_dae.report import report

    model, history = fit(config, dataset, partial / "checkpoint", tensorboard)
    report(partial, config, dataset, model, history)
    failure = None
    if export:
        from export.parity import ParityError
        from export.run import export_run, print_proof

        try:
            print_proof(partial, export_run(partial, dataset=dataset))
        except ParityError as error:
            failure = error  # costs the exports, not the training
    put_folder_in_place(partial, run)
    if failure:
        remove_checkpoints(run)
        raise ParityError(f"{run} is finished but for its exports: {failure}")


def main(argv=None):
    """Command line of `train_and_evaluate`; returns the exit status."""
    options = vars(parser().parse_args(argv))
    settings = {name: options.pop(name) for name in ("output_dir", "overwrite", "tensorboard", "export")}
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's notes on this machine's processor

    def command():
        signal.signal(signal.SIGTERM, _terminate)
        config = _config(**options)
        try:
            run = train_and_evaluate(config, **settings)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("finished epochs are kept; run the same command again to go on") from None
        print(f"{run}: finished" if run else "finished; worker 0 has the run")

    return errors.run(command)


def _config(config=None, **options):
    """Return the config of a config.json, or of a recipe, with the options given on top."""
    if config is None:
        return TrainConfig.from_recipe(**options)
    if "recipe" in options:
        raise UserError("expected --config or --recipe, got both")
    return load_config(config, **options)


def _terminate(signal_number, frame):
    raise KeyboardInterrupt


def parser():
    """Return the argument parser; an option that is not given is absent, so that the recipe's value holds."""
    parser = argparse.ArgumentParser(
        prog="python -m keras_dae.train",
        description="Train a denoising autoencoder; write model, history, metrics and pictures into a run folder.",
        argument_default=argparse.SUPPRESS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Defaults are the recipe's: `seed` is the PyTorch original's training, `quick` reaches its quality in\n"
        "one epoch, `best` trains longer and better.",
    )
    add = parser.add_argument
    add("--recipe", choices=RECIPES, help="set of defaults (seed)")
    add("--config", metavar="FILE", help="take the values of a run's config.json instead of a recipe's")
    data = parser.add_argument_group("images")
    add = data.add_argument
    add("--dataset", help=f"{', '.join(NAMES)}, a folder of images, or an .npz or .npy file (auto: MNIST, else digits)")
    add("--data-dir", help="folder to look for mnist and fashion_mnist in, before KERAS_DAE_DATA and Keras's cache")
    add("--noisy-dir", help="folder of really noisy images, with --clean-dir: nothing is synthesized then")
    add("--clean-dir", help="folder of the same images without noise, of the same names")
    add("--channels", type=int, choices=(1, 3), help="1 for grey, 3 for RGB (1)")
    add("--patch-size", type=int, help="pixels, a multiple of 4, at least 20 (chosen to fit, at most 64)")
    add("--patches-per-image", type=int, help="at most so many patches of an image an epoch (16)")
    add("--limit", type=int, help="use only so many images, for a quick try")
    add("--validation-split", type=float, help="share of the training images held out (0.05)")
    noise = parser.add_argument_group("noise")
    add = noise.add_argument
    add("--noise", nargs="+", choices=NOISES, help="several: one drawn for each image (gaussian)")
    add("--noise-factor", nargs="+", type=float, metavar="F", help="one, or LOW HIGH: drawn for each image (0.5)")
    add("--no-clip", dest="clip", action="store_false", help="do not cut noisy values to [0, 1]")
    training = parser.add_argument_group("training")
    add = training.add_argument
    add("--batch-size", type=int)
    add("--epochs", type=int)
    add("--learning-rate", type=float, help="Adam's; the highest of the schedule")
    add("--beta-1", type=float, help="Adam's")
    add("--beta-2", type=float, help="Adam's")
    add("--schedule", choices=SCHEDULES)
    add("--warmup-steps", type=int)
    add("--initialization", choices=INITIALIZATIONS)
    add("--early-stopping", type=int, metavar="EPOCHS", help="stop after so many epochs without improvement")
    add("--seed", type=int)
    output = parser.add_argument_group("output")
    add = output.add_argument
    add("--output-dir", default=None, help="run folder (saved_models/<dataset>-<noise>-<factor>)")
    add("--overwrite", action="store_true", default=False, help="replace a finished run")
    add("--no-export", dest="export", action="store_false", default=True, help="leave out SavedModel and ONNX")
    add("--tensorboard", default=None, metavar="DIR", help="also write event files for TensorBoard")
    return parser


if __name__ == "__main__":
    sys.exit(main())
