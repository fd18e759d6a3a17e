"""`load_dataset`: the training, validation and test images that a config names."""

import os
import sys
from pathlib import Path

import numpy as np

from keras_dae.config import DATASETS, TrainConfig
from keras_dae.data.array_file import array_dataset, read_arrays
from keras_dae.data.digits import cached_digits
from keras_dae.data.image_folder import folder_dataset
from keras_dae.data.mnist import NotAvailable, load_mnist
from keras_dae.data.pairs import find_images, matched_pairs
from keras_dae.data.splits import DatasetSplits
from keras_dae.errors import UserError


def load_dataset(config: TrainConfig) -> DatasetSplits:
    """Return the images that a config names, divided into training, validation and test images.

    Images are `(height, width, config.channels)`, uint8 in 0 … 255 or float32 in [0, 1].

    Raises:
        UserError: no usable images were found; the message says what was looked for, and where.

    Example::

        dataset = load_dataset(TrainConfig(dataset="digits"))
        dataset.train.shape  # (57000, 28, 28, 1)
        dataset.validation.clean.shape  # (3000, 28, 28, 1)
        dataset.test.clean.shape  # (10000, 28, 28, 1)
    """
    if config.noisy_dir is not None and config.clean_dir is not None:
        pairs, unmatched = matched_pairs(config.noisy_dir, config.clean_dir, config.split)
        name = f"{Path(config.noisy_dir).resolve().name}-pairs"
        return folder_dataset(config, (config.clean_dir, config.noisy_dir), pairs, name, unmatched)
    if config.dataset in DATASETS:
        if config.channels != 1:
            raise UserError(f"expected --channels 1 for {config.dataset}, which is grey, got {config.channels}")
        name, train, test = _named_dataset(config)
        return array_dataset(config, name, train[..., None], test[..., None])
    path = Path(config.dataset)
    if os.path.isdir(path):
        files = [(file,) for file in find_images(path, config.split)]
        return folder_dataset(config, (config.dataset,), files, path.resolve().name)
    if path.suffix in (".npz", ".npy") and os.path.isfile(path):
        return array_dataset(config, path.stem, *read_arrays(path, config))
    raise UserError(
        f"expected --dataset to be one of {', '.join(DATASETS)}, a folder of images, or an .npz or .npy file; "
        f"got {config.dataset}, which is none of them"
    )


def _named_dataset(config: TrainConfig) -> tuple[str, np.ndarray, np.ndarray]:
    """Return `(name, train, test)` of a dataset of DATASETS, each array uint8 `(n, 28, 28)`."""
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
