"""Train the first steps of each recipe, to find seeds that collapse: `python -m benchmarks.start_values`."""

import argparse
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from keras_dae.config import RECIPES, TrainConfig
from keras_dae.data.load import load_dataset
from keras_dae.errors import run_command


def first_steps(config, dataset, steps):
    """Train only the first `steps` steps of the schedule; return `(validation MSE, variation)`.

    The variation is the standard deviation across the denoised images, divided by that across the clean images. It is 0
    for a network whose output is always the same image.
    """
    from keras_dae.data.batches import epoch_plan, evaluation_images, training_batches
    from keras_dae.train.fit import compiled_model

    noisy, clean = evaluation_images(dataset.validation, config)
    _, epoch_steps, _ = epoch_plan(dataset.train, config)
    model = compiled_model(config, clean.mean(), epoch_steps, steps_per_execution=1)
    model.fit(training_batches(dataset.train, config).take(steps), verbose=0)
    denoised = model.predict(noisy, verbose=0)
    return float(((denoised - clean) ** 2).mean()), float(denoised.std(axis=0).mean() / clean.std(axis=0).mean())


def main(argv=None):
    """Print a line for each recipe and seed, and the number of seeds that collapsed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.start_values", description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--dataset", default="auto")
    parser.add_argument("--data-dir")
    options = parser.parse_args(argv)

    def command():
        from keras_dae.train.callbacks import MIN_VARIATION

        for recipe in RECIPES:
            collapsed = 0
            for seed in range(options.seeds):
                config = TrainConfig.from_recipe(recipe, dataset=options.dataset, data_dir=options.data_dir, seed=seed)
                mse, variation = first_steps(config, load_dataset(config), options.steps)
                collapsed += variation < MIN_VARIATION
                print(f"{recipe:5} seed {seed:2}: validation MSE {mse:.4f}, variation {variation:.2f}", flush=True)
            print(f"{recipe}: {collapsed} of {options.seeds} collapsed after {options.steps} steps", flush=True)

    return run_command(command)


if __name__ == "__main__":
    sys.exit(main())
