"""Verify the committed models against their model cards: `python tests/verify_shipped.py` (needs MNIST).

Recomputes the figures in metrics.json with model.keras on MNIST's test images, and runs the parity check again.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from export.recheck import check_run
from keras_dae import pretrained
from keras_dae._util.json_files import read_json
from keras_dae.data.load import load_dataset
from keras_dae.errors import UserError, run_command
from keras_dae.runs.folder import load_config

TOLERANCE = 1e-4  # relative; other processors add in another order


def verify(name):
    """Print the recomputed figures of a shipped model.

    Raises:
        UserError: the figures differ from metrics.json.
        ParityError: an export does not compute the same.
    """
    from keras_dae.data.batches import evaluation_images
    from keras_dae.metrics import mean_metrics
    from keras_dae.networks.keras_file import load_model

    run = pretrained.model_folder(name)
    config, recorded = load_config(run / "config.json"), read_json(run / "metrics.json")
    dataset = load_dataset(config)
    if dataset.sha256 != recorded["dataset_sha256"]:
        raise UserError(f"expected the images that {name} was trained on, got other images named {dataset.name}")
    noisy, clean = evaluation_images(dataset.test, config)
    denoised = load_model(run / "model.keras").predict(noisy, batch_size=500, verbose=0)
    recomputed = mean_metrics(clean, denoised)
    for metric, value in recomputed.items():
        if abs(value / recorded["test"][metric] - 1) > TOLERANCE:
            raise UserError(f"{name}: metrics.json says a {metric} of {recorded['test'][metric]}, recomputed {value}")
    with tempfile.TemporaryDirectory() as folder:  # the parity check writes into the run
        copy = Path(shutil.copytree(run, Path(folder, name)))
        check_run(copy)
    print(f"{name}: {', '.join(f'{metric} {value:.5g}' for metric, value in recomputed.items())}, exports verified")


if __name__ == "__main__":
    sys.exit(run_command(lambda: [verify(name) for name in pretrained.MODEL_NAMES] and None))
