"""Measure denoisers on noisy test images, next to classical methods: `evaluate`."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from keras_dae._util.atomic import folder_to_replace, locked, staged_folder
from keras_dae.config import TrainConfig
from keras_dae.data.load import load_dataset
from keras_dae.data.splits import DatasetSplits
from keras_dae.errors import UserError
from keras_dae.evaluate.intervals import CONFIDENCE, confidence_interval
from keras_dae.evaluate.loaders import open_backend
from keras_dae.evaluate.ranked_images import RankedImages, worst_median_best
from keras_dae.evaluate.trained_runs import check_unseen, distinct_names, evaluation_config, trained_noise
from keras_dae.runs.evaluation import ContenderResult, Evaluation, NoiseLevel
from keras_dae.runs.folder import check_replaceable
from keras_dae.runs.noise_setting import NoiseSetting

TUNING_IMAGES = 50  # validation images on which the parameters of the classical methods are chosen
PLOTTED = 4  # number of worst, of median and of best images in the picture of a run


@dataclass(frozen=True)
class Model:
    """One artefact of a run.

    Attributes:
        label: name shown in tables and pictures.
        run: name of the run.
        backend: a name of `keras_dae.evaluate.loaders.BACKENDS`.
        trained_for: None if it is unknown.
        denoise: see `open_backend`.
    """

    label: str
    run: str
    backend: str
    trained_for: NoiseSetting | None
    denoise: Callable[[np.ndarray], np.ndarray]

    def is_trained_for(self, noise: NoiseSetting) -> bool | None:
        """Return whether the run was trained for this noise; None if that is unknown."""
        return None if self.trained_for is None else self.trained_for.covers(noise)


def evaluate(
    runs: Iterable[str | os.PathLike],
    backends: Iterable[str] = ("keras",),
    noise_factors: Sequence[float] | None = None,
    output_dir: str | os.PathLike | None = None,
    bm3d: bool = False,
    overwrite: bool = False,
    **overrides: Any,
) -> Evaluation:
    """Measure runs on the same noisy test images; write the results into a folder and return them.

    The test images and their noise are those of the first run, unless `overrides` name others. All models get the same
    noise, whatever the seed of their training. README.md says which files are written.

    Args:
        runs: run folders.
        backends: which artefacts of each run to measure, names of `keras_dae.evaluate.loaders.BACKENDS`.
        noise_factors: noise levels, each measured separately; None for the level that the first run was trained for.
        output_dir: folder for the results; None for the folder `evaluation` in the first run, whose model card is then
            updated.
        bm3d: whether to measure BM3D, too, which is slow.
        overwrite: whether to replace the results that the folder holds.
        overrides: fields of `TrainConfig` that differ from the first run's, such as `dataset`, `noise` or `limit`.

    Raises:
        UserError: a run, an artefact, the images or BM3D's package are missing; the networks cannot take the images;
            or the folder holds results already, or something else, or cannot be written.
    """
    folders = list(dict.fromkeys(map(str, runs)))
    config = evaluation_config(folders[0], overrides)
    if config.has_pairs and (noise_factors or "noise" in overrides):
        raise UserError(
            "expected no --noise or --noise-factor with pairs of real noisy and clean images; choose other images with "
            "--dataset to add noise to them"
        )
    # Everything that can be wrong with the request is checked before anything slow starts.
    results = folder_to_replace(output_dir or Path(folders[0], "evaluation"))
    check_replaceable(results, "an evaluation", lambda folder: (folder / "evaluation.json").is_file(), overwrite)
    level_configs = [replace(config, noise_factor=(factor,)) for factor in noise_factors or ()] or [config]
    folder_of = dict(zip(distinct_names(folders), folders))
    trained_for = {run: trained_noise(folder) for run, folder in folder_of.items()}
    dataset = load_dataset(config)
    for folder in folders:
        check_unseen(folder, config, dataset)

    from keras_dae.evaluate.baselines import chosen_baselines
    from keras_dae.evaluate.results import write_evaluation
    from keras_dae.report.model_card import write_model_card

    baselines = chosen_baselines(bm3d)
    backends = list(dict.fromkeys(backends))
    models = [
        Model(
            label=run if len(backends) == 1 else f"{run} [{backend}]",
            run=run,
            backend=backend,
            trained_for=trained_for[run],
            denoise=open_backend(folder, backend),
        )
        for run, folder in folder_of.items()
        for backend in backends
    ]
    levels: list[NoiseLevel] = []
    pictures: dict[str, RankedImages] = {}
    for level_config in level_configs:
        level, ranked = _measure_level(dataset, level_config, baselines, models)
        levels.append(level)
        for run, images in ranked.items():
            # The picture shows the last level that the run was trained for, or else the last level.
            if run not in pictures or images.trained_for_this or not pictures[run].trained_for_this:
                pictures[run] = images
    noise = NoiseSetting.of(config)
    evaluation = Evaluation(
        dataset=dataset.name,
        dataset_sha256=dataset.sha256,
        images=dataset.test.image_count,
        patches=dataset.test.patch_count,
        noise=noise.noise,
        clip=noise.clip,
        confidence=CONFIDENCE,
        trained_for=trained_for,
        levels=tuple(levels),
    )
    with locked(results if output_dir else folders[0]):
        with staged_folder(results) as staged:
            write_evaluation(staged, evaluation, pictures)
        if output_dir is None:
            write_model_card(folders[0])
    return evaluation


def _measure_level(
    dataset: DatasetSplits, config: TrainConfig, baselines: dict[str, Callable[..., np.ndarray]], models: list[Model]
) -> tuple[NoiseLevel, dict[str, RankedImages]]:
    """Return the results of all contenders at the noise level of `config`, and the images to show for each run."""
    from keras_dae.data.batches import evaluation_images
    from keras_dae.evaluate.baselines import best_parameters
    from keras_dae.metrics import per_image_metrics

    noise = NoiseSetting.of(config)
    tuning_noisy, tuning_clean = evaluation_images(dataset.validation.first(TUNING_IMAGES), config)
    noisy, clean = evaluation_images(dataset.test, config)
    image_index = dataset.test.image_index
    before = per_image_metrics(clean, noisy)
    results = [_result("noisy", "noisy", before, before, image_index)]
    for name, baseline in baselines.items():
        parameters = best_parameters(baseline, tuning_noisy, tuning_clean)
        after = per_image_metrics(clean, baseline(noisy, **parameters))
        results.append(_result(name, "classical", after, before, image_index, parameters=parameters))
    pictures: dict[str, RankedImages] = {}
    for model in models:
        denoised = model.denoise(noisy)
        after = per_image_metrics(clean, denoised)
        trained_for_this = model.is_trained_for(noise)
        about_model = {"run": model.run, "backend": model.backend, "trained_for_this": trained_for_this}
        results.append(_result(model.label, "model", after, before, image_index, **about_model))
        if model.run not in pictures:
            shown = worst_median_best(after["psnr"], PLOTTED)
            images = (clean[shown], noisy[shown], denoised[shown])
            pictures[model.run] = RankedImages(model.label, noise, trained_for_this, *images)
    return NoiseLevel(noise.noise_factor, tuple(results)), pictures


def _result(
    name: str,
    kind: Literal["noisy", "classical", "model"],
    after: dict[str, np.ndarray],
    before: dict[str, np.ndarray],
    image_index: np.ndarray | None,
    **about_contender: Any,
) -> ContenderResult:
    """Return the result of a contender.

    Args:
        name, kind: see `ContenderResult`.
        after, before: metrics of the denoised and of the noisy images, see `per_image_metrics`.
        image_index: see `mean_per_image`.
        about_contender: the fields of `ContenderResult` that only this kind of contender has.
    """
    from keras_dae.metrics import mean_per_image

    means: dict[str, Any] = {
        metric: confidence_interval(mean_per_image(values, image_index)) for metric, values in after.items()
    }
    worse = mean_per_image(after["psnr"], image_index) < mean_per_image(before["psnr"], image_index)
    return ContenderResult(name, kind, **means, made_worse=int(worse.sum()), **about_contender)
