"""Train, evaluate and picture a denoiser: `python -m keras_dae.train`."""

import argparse
import os
import signal
import sys

from keras_dae.config import DATASETS, INITIALIZATIONS, RECIPES, SCHEDULES, TrainConfig
from keras_dae.errors import UserError, run_command
from keras_dae.noise_names import NOISES
from keras_dae.runs.folder import load_config
from keras_dae.train.run import train_and_evaluate


def main(argv=None, prog="python -m keras_dae.train"):
    """Command line of `train_and_evaluate`; returns the exit status."""
    options = vars(parser(prog).parse_args(argv))
    settings = {name: options.pop(name) for name in ("output_dir", "overwrite", "tensorboard")}
    finish = _export if options.pop("export") else None
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's notes on this machine's processor

    def command():
        signal.signal(signal.SIGTERM, _terminate)
        config = _config(**options)
        try:
            run = train_and_evaluate(config, **settings, finish=finish)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("finished epochs are kept; run the same command again to go on") from None
        print(f"{run}: finished" if run else "finished; worker 0 has the run")

    return run_command(command)


def _export(run, dataset):
    """Export a run and print what the parity check found."""
    from export.run import export_run, print_parity

    print_parity(run, export_run(run, dataset=dataset))


def _config(config=None, **options):
    """Return the config of a config.json, or of a recipe, with the options given on top."""
    if config is None:
        return TrainConfig.from_recipe(**options)
    if "recipe" in options:
        raise UserError("expected --config or --recipe, got both")
    return load_config(config, **options)


def _terminate(signal_number, frame):
    raise KeyboardInterrupt


def parser(prog="python -m keras_dae.train"):
    """Return the argument parser; an option that is not given is absent, so that the recipe's value holds."""
    parser = argparse.ArgumentParser(
        prog=prog,
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
    add(
        "--dataset",
        help=f"{', '.join(DATASETS)}, a folder of images, or an .npz or .npy file (auto: MNIST, else digits)",
    )
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
