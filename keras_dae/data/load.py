"""Where clean images come from: `load_dataset` gives the training, validation and test images of a config."""

import os
import sys
from pathlib import Path

from keras_dae.config import DATASETS
from keras_dae.data.array_file import array_dataset, read_arrays
from keras_dae.data.digits import cached_digits
from keras_dae.data.image_folder import folder_dataset, matched_pairs
from keras_dae.data.mnist import NotAvailable, load_mnist
from keras_dae.errors import UserError
from keras_dae.images.read import find_images


def load_dataset(config):
    """Return the `DatasetSplits` that a `TrainConfig` names.

    Raises:
        UserError: nothing usable is there; says what was looked for and where.
    """
    if config.has_pairs:
        return folder_dataset(config, *matched_pairs(config.noisy_dir, config.clean_dir))
    if config.dataset in DATASETS:
        if config.channels != 1:
            raise UserError(f"expected --channels 1 for {config.dataset}, which is grey, got {config.channels}")
        name, train, test = _named(config)
        return array_dataset(config, name, train[..., None], test[..., None])
    path = Path(config.dataset)
    if os.path.isdir(path):
        return folder_dataset(config, [(file,) for file in find_images(path)], path.resolve().name, ())
    if path.suffix in (".npz", ".npy") and os.path.isfile(path):
        return array_dataset(config, path.stem, *read_arrays(path, config))
    raise UserError(
        f"expected --dataset to be one of {', '.join(DATASETS)}, a folder of images, or an .npz or .npy file; "
        f"got {config.dataset}, which is none of them"
    )


def _named(config):
    if config.dataset == "digits":
        return "digits", *cached_digits()
    name = "mnist" if config.dataset == "auto" else config.dataset
    try:
        return name, *load_mnist(name, config.data_dir)
    except NotAvailable as error:
        if config.dataset != "auto":
            raise
        print(f"*** NOT MNIST: training on the built-in digits instead, because {error}. ***", file=sys.stderr)
        return "digits", *cached_digits()
