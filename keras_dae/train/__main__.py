"""Train a denoiser, measure it and export it: `python -m keras_dae.train`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_dae._util.command import prepare_command
from keras_dae._util.stop_signals import catch_stop_signals
from keras_dae.config import DATASETS, LOSSES, RECIPES, SCHEDULES, TrainConfig, min_patch_size, white
from keras_dae.data.splits import MAX_PATCH_SIZE, DatasetSplits
from keras_dae.errors import UserError, run_command
from keras_dae.networks import NETWORKS
from keras_dae.networks.initializers import INITIALIZATIONS
from keras_dae.noise_names import NOISES, sigma
from keras_dae.runs.folder import load_config
from keras_dae.train.run import train_and_evaluate


def main(argv: Sequence[str] | None = None, prog: str = "python -m keras_dae.train") -> int:
    """Command line of `train_and_evaluate`; returns the exit status."""
    prepare_command()
    options = vars(parser(prog).parse_args(argv))
    settings = {name: options.pop(name) for name in ("output_dir", "overwrite", "resume_anyway", "tensorboard")}
    finish = _export if options.pop("export") else None

    def command():
        catch_stop_signals()
        config = _config(**options)
        try:
            run = train_and_evaluate(config, **settings, finish=finish, set_up_tensorflow=True)
        except KeyboardInterrupt:
            message = "finished epochs are kept; run the same command again to go on"
            raise KeyboardInterrupt(message) from None
        print(f"{run}: finished" if run else "finished; worker 0 has written the run")

    return run_command(command)


def _export(run: Path, dataset: DatasetSplits) -> None:
    """Export a run and print what the parity check found."""
    from export.run import export_run, print_parity

    print_parity(run, export_run(run, dataset=dataset))


def _config(config: str | None = None, **options: Any) -> TrainConfig:
    """Return the config of a config.json, or of a recipe, with the given options replaced."""
    if config is None:
        return TrainConfig.from_recipe(**options)
    if "recipe" in options:
        raise UserError("expected --config or --recipe, got both")
    return load_config(config, **options)


def parser(prog: str = "python -m keras_dae.train") -> argparse.ArgumentParser:
    """Return the argument parser. Options that are not given are absent, so that the recipe's values hold."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Train a denoiser; write model, history, metrics and pictures into a run folder.",
        argument_default=argparse.SUPPRESS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Defaults are those of the recipe `seed`, which is the training of the PyTorch original.\n"
        "`quick` reaches its quality in one epoch. `best` trains longer and better. `photo` trains the network `unet` "
        "for photographs with Gaussian noise of any level up to 55 of 255.",
    )
    parser.add_argument("--recipe", choices=RECIPES, help=_with_default("set of defaults", "recipe"))
    parser.add_argument(
        "--network",
        choices=NETWORKS,
        help=_with_default("autoencoder is the PyTorch original; unet keeps the detail of photographs", "network"),
    )
    parser.add_argument("--config", metavar="FILE", help="config.json of a run, whose values replace the recipe's")
    _add_image_options(parser.add_argument_group("images"))
    _add_noise_options(parser.add_argument_group("noise"))
    _add_augmentation_options(parser.add_argument_group("augmentation"))
    _add_training_options(parser.add_argument_group("training"))
    _add_output_options(parser.add_argument_group("output"))
    return parser


def _sizes() -> str:
    """Return which sizes fit the networks, in words."""
    grids = {name: network.geometry.grid for name, network in NETWORKS.items()}
    return "; ".join(
        f"for {name} a multiple of {grid.multiple}, at least {min_patch_size(grid)}" for name, grid in grids.items()
    )


def _with_default(text: str, field: str) -> str:
    """Return a help text that ends in the default of a field of `TrainConfig`."""
    value = getattr(TrainConfig, field)
    return f"{text} (default: {' '.join(map(str, value)) if isinstance(value, tuple) else value})"


def _add_image_options(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--dataset",
        help=_with_default(
            f"{', '.join(DATASETS)}, a folder of images, or an .npz or .npy file; auto is MNIST, or else digits",
            "dataset",
        ),
    )
    add("--data-dir", help="folder with mnist and fashion_mnist, searched before KERAS_DAE_DATA and Keras's cache")
    add("--noisy-dir", help="folder of real noisy images, with --clean-dir; then no noise is added")
    add("--clean-dir", help="folder of the same images without noise, with the same file names and sizes")
    add("--channels", type=int, choices=(1, 3), help=_with_default("1 for grey, 3 for RGB", "channels"))
    add(
        "--white",
        type=white,
        metavar="WHITE",
        help=_with_default("what becomes 1 in 16-bit images: auto (as measured), type (65535), or a number", "white"),
    )
    add(
        "--patch-size",
        type=int,
        help=f"height and width in pixels, {_sizes()} (default: what fits the images, at most {MAX_PATCH_SIZE})",
    )
    add(
        "--patches-per-image",
        type=int,
        help=_with_default("maximum number of patches of an image per epoch", "patches_per_image"),
    )
    add("--limit", type=int, help="maximum number of training and of test images, for a quick try")
    add(
        "--validation-split",
        type=float,
        help=_with_default("held-out fraction of the training images", "validation_split"),
    )


def _add_noise_options(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    kind = group.add_mutually_exclusive_group()
    kind.add_argument(
        "--noise",
        nargs="+",
        choices=NOISES,
        help=_with_default("if several, each image gets one of them", "noise"),
    )
    kind.add_argument(
        "--degrade",
        dest="noise",
        nargs=1,
        choices=("photo",),
        help="add noise like that of real photographs; the same as --noise photo",
    )
    level = group.add_mutually_exclusive_group()
    level.add_argument(
        "--noise-factor",
        nargs="+",
        type=float,
        metavar="F",
        help=_with_default("noise level, or LOW HIGH to draw one for each image", "noise_factor"),
    )
    level.add_argument(
        "--sigma",
        dest="noise_factor",
        nargs="+",
        type=sigma,
        metavar="S",
        help="the same on the scale from 0 to 255: 25 is --noise-factor 0.098",
    )
    add("--clip", action=argparse.BooleanOptionalAction, help=_with_default("clip noisy values to [0, 1]", "clip"))


def _add_augmentation_options(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--flips", action=argparse.BooleanOptionalAction, help="turn and mirror the training images at random")
    add(
        "--scales",
        nargs="+",
        type=float,
        metavar="S",
        help=_with_default("resize images by one of these factors, drawn anew in each epoch, before cutting", "scales"),
    )


def _add_training_options(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--batch-size", type=int, help=_with_default("images, or patches, per step", "batch_size"))
    add("--epochs", type=int, help=_with_default("passes over the training images", "epochs"))
    add("--learning-rate", type=float, help=_with_default("peak of Adam's learning rate", "learning_rate"))
    add("--beta-1", type=float, help=_with_default("Adam's decay rate of the first moments", "beta_1"))
    add("--beta-2", type=float, help=_with_default("Adam's decay rate of the second moments", "beta_2"))
    add("--schedule", choices=SCHEDULES, help=_with_default("course of the learning rate", "schedule"))
    add("--warmup-steps", type=int, help=_with_default("steps until the learning rate's peak", "warmup_steps"))
    add("--loss", choices=LOSSES, help=_with_default("mean squared or mean absolute error", "loss"))
    add("--clip-norm", type=float, metavar="NORM", help="largest norm of the gradients of a step (default: no limit)")
    add("--average", type=float, metavar="RATE", help="keep a moving average of the weights with this decay rate")
    add(
        "--initialization",
        choices=INITIALIZATIONS,
        help=_with_default("method of the initial weights", "initialization"),
    )
    add("--early-stopping", type=int, metavar="EPOCHS", help="stop after this many epochs without improvement")
    add("--seed", type=int, help=_with_default("random seed of initial weights, split, order and noise", "seed"))


def _add_output_options(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--output-dir", default=None, help="run folder (default: below saved_models, named after images and noise)")
    add("--overwrite", action="store_true", default=False, help="replace a finished run, or drop an interrupted one")
    add(
        "--resume-anyway",
        action="store_true",
        default=False,
        help="continue an interrupted run that began with other versions of packages, or another number of workers, "
        "threads or cores; config.json lists them",
    )
    add("--no-export", dest="export", action="store_false", default=True, help="do not export to SavedModel and ONNX")
    add("--tensorboard", default=None, metavar="DIR", help="also write event files for TensorBoard")


if __name__ == "__main__":
    sys.exit(main())
