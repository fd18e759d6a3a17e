"""Measure denoisers on noisy test images, beside classical methods."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from keras_dae._util.json_files import expecting, read_json
from keras_dae.config import TrainConfig
from keras_dae.data.load import load_dataset
from keras_dae.errors import UserError
from keras_dae.evaluate.loaders import open_backend
from keras_dae.runs.folder import load_config

TUNING_IMAGES = 50  # validation images on which the classical methods get their parameters
CONFIDENCE = 0.95
PICTURED = 4  # worst, median and best images each


def evaluate(runs, backends=("keras",), noise_factors=None, output_dir=None, **overrides):
    """Measure runs on the same noisy test images; write the results into a folder, and return them.

    The images are those of the first run, unless `overrides` name others; the noise is the first run's likewise, and
    the same for everyone, whatever the seed of a training. See README for what is written.

    Args:
        runs: run folders.
        backends: names of `keras_dae.evaluate.loaders.BACKENDS`: what of each run is measured.
        noise_factors: noise levels, one evaluation each; None for what the first run was trained for.
        output_dir: folder for evaluation.json, evaluation.csv, psnr.png and a picture of each run; None for
            `evaluation` in the first run, whose model card then tells of it.
        overrides: fields of `TrainConfig` that differ from the first run's, such as `dataset`, `noise` or `limit`.

    Returns:
        what evaluation.json holds.

    Raises:
        UserError: no such run, artefact or images; images that the networks do not take; a folder that cannot be
            written.
    """
    runs = list(dict.fromkeys(map(str, runs)))
    config = _config_of(runs[0], overrides)
    if config.has_pairs and (noise_factors or "noise" in overrides):
        raise UserError("expected no --noise or --noise-factor for images that are really noisy; or give --dataset too")
    # Checked before anything slow starts.
    levels = [replace(config, noise_factor=(factor,)) for factor in noise_factors or ()] or [config]
    about = {_name(run, runs): _trained_for(run) for run in runs}
    dataset = load_dataset(config)
    for run in runs:
        check_unseen(run, config, dataset)

    from keras_dae.evaluate.results import write_evaluation
    from keras_dae.report.model_card import write_model_card

    models = {
        (_name(run, runs), backend): open_backend(run, backend) for run in runs for backend in dict.fromkeys(backends)
    }
    results, pictures = [], {}
    for level in levels:
        rows, images = _measure_level(dataset, level, models, about)
        results.append({"noise_factor": None if config.has_pairs else list(level.noise_factor), "results": rows})
        for name in about:  # the last level for which the run was trained, or else the last
            if name not in pictures or _is_trained(about[name], level) or not pictures[name]["trained"]:
                pictures[name] = images[name] | {"trained": _is_trained(about[name], level)}
    evaluation = {
        "dataset": dataset.name,
        "dataset_sha256": dataset.sha256,
        "images": dataset.test.image_count,
        **({} if dataset.test.patch_count is None else {"patches": dataset.test.patch_count}),
        "noise": ["real pairs"] if config.has_pairs else list(config.noise),
        "clip": config.clip,
        "confidence": CONFIDENCE,
        "trained_for": about,
        "levels": results,
    }
    write_evaluation(Path(output_dir or Path(runs[0], "evaluation")), evaluation, pictures)
    if output_dir is None:
        write_model_card(runs[0])
    return evaluation


def _measure_level(dataset, config, models, about):
    """Return the results of everyone at one noise level, and for each run the images to show, name -> dict."""
    from keras_dae.data.batches import evaluation_images
    from keras_dae.evaluate.baselines import BASELINES, best_parameters
    from keras_dae.metrics import per_image_metrics

    tuning = evaluation_images(dataset.validation.first(TUNING_IMAGES), config)
    image = dataset.test.image_index
    noisy, clean = evaluation_images(dataset.test, config)
    before = per_image_metrics(clean, noisy)
    rows, pictures = [_summary("noisy", "noisy", before, before, image)], {}
    for name, baseline in BASELINES.items():
        parameters = best_parameters(baseline, *tuning)
        after = per_image_metrics(clean, baseline(noisy, **parameters))
        rows.append(_summary(name, "classical", after, before, image) | {"parameters": parameters})
    for (run, backend), denoise in models.items():
        denoised = denoise(noisy)
        after = per_image_metrics(clean, denoised)
        rows.append(
            _summary(run if len({b for _, b in models}) == 1 else f"{run} [{backend}]", "model", after, before, image)
            | {"run": run, "backend": backend, "trained_for_this": _is_trained(about[run], config)}
        )
        if run not in pictures:
            shown = ranked(after["psnr"], PICTURED)
            pictures[run] = {
                "clean": clean[shown],
                "noisy": noisy[shown],
                "denoised": denoised[shown],
                "config": config,
                "name": rows[-1]["name"],
            }
    return rows, pictures


def ranked(psnr, each):
    """Return the indices of the worst, the median and the best images, `each` of them; fewer where images are few."""
    order = np.argsort(psnr, kind="stable")
    each = min(each, len(order) // 3) or 1
    middle = (len(order) - each) // 2
    return np.concatenate([order[:each], order[middle : middle + each], order[len(order) - each :]])


def _summary(name, kind, after, before, image):
    """Return means with their intervals, and how many images came out worse than they went in; see `mean_per_image`."""
    from keras_dae.metrics import mean_per_image

    means = {metric: interval(mean_per_image(values, image)) for metric, values in after.items()}
    worse = mean_per_image(after["psnr"], image) < mean_per_image(before["psnr"], image)
    return {"name": name, "kind": kind, **means, "made_worse": int(worse.sum())}


def interval(values):
    """Return the mean of `(n,)` values with its 95 % interval, by Student's t: `{"mean", "low", "high"}`.

    With a single value the interval is not known: `low` and `high` are None.
    """
    from scipy.stats import sem, t

    mean, count = float(np.mean(values)), len(values)
    if count < 2:
        return {"mean": mean, "low": None, "high": None}
    half = float(t.ppf((1 + CONFIDENCE) / 2, count - 1) * sem(values))
    return {"mean": mean, "low": mean - half, "high": mean + half}


def _config_of(run, overrides):
    """Return the config that says which images and which noise to measure with."""
    if _is_imported(run):  # from PyTorch: trained we do not know how
        return TrainConfig(**overrides)
    return load_config(Path(run, "config.json"), **overrides)


def check_unseen(run, config, dataset):
    """Raise `UserError` if a run was trained on the same folder or file, but on other images than are in it now.

    Which of them are for testing depends on all of them.
    """
    if _is_imported(run):
        return
    file = Path(run, "config.json")
    trained = load_config(file)
    with expecting(file):
        name, sha256 = (read_json(file)["dataset"][key] for key in ("name", "sha256"))
    places = [[os.path.abspath(c.dataset), c.noisy_dir, c.clean_dir, c.channels] for c in (trained, config)]
    if places[0] == places[1] and name == dataset.name and sha256 != dataset.sha256:
        raise UserError(
            f"{dataset.name} holds other images than when {run} was trained: it may have learned from some of those "
            "to measure on; put them back, or give others with --dataset"
        )


def _is_imported(run):
    return "imported" in read_json(Path(run, "config.json"))


def _trained_for(run):
    """Return the noise that a run was trained for, or None where that is not known."""
    if _is_imported(run):
        return None
    config = load_config(Path(run, "config.json"))
    if config.has_pairs:
        return {"noise": ["real pairs"], "noise_factor": None}
    return {"noise": list(config.noise), "noise_factor": list(config.noise_factor)}


def _is_trained(trained_for, config):
    """Return whether a run was trained for the noise of `config`; None where that is not known."""
    if trained_for is None:
        return None
    if config.has_pairs or trained_for["noise_factor"] is None:
        return config.has_pairs and trained_for["noise_factor"] is None
    low, high = min(trained_for["noise_factor"]), max(trained_for["noise_factor"])
    return set(config.noise) <= set(trained_for["noise"]) and all(low <= f <= high for f in config.noise_factor)


def _name(run, runs):
    """Return the folder's name, with as much of the path before it as tells it from the others."""
    parts, *others = (Path(path).resolve().parts for path in (run, *runs))
    count = next(n for n in range(1, len(parts) + 1) if all(o[-n:] != parts[-n:] for o in others if o != parts))
    return "/".join(parts[-count:])
