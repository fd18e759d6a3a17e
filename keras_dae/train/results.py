"""What a finished training leaves in its run folder: model, history, metrics, pictures and model card."""

import sys
from pathlib import Path

import keras
import numpy as np

from keras_dae._util.atomic import atomic_file
from keras_dae._util.batches import run_in_batches
from keras_dae.config import TrainConfig
from keras_dae.data.batches import evaluation_images
from keras_dae.data.splits import DatasetSplits
from keras_dae.evaluate.baselines import median
from keras_dae.metrics import mean_metrics
from keras_dae.networks.keras_file import save_model
from keras_dae.report.model_card import write_model_card
from keras_dae.report.plots import plot_loss, plot_samples
from keras_dae.report.text import describe_images
from keras_dae.runs.metrics_file import ImageMetrics, RunMetrics, write_metrics
from keras_dae.runs.noise_setting import NoiseSetting
from keras_dae.train.checkpoint import HistoryRow, write_history
from keras_dae.train.judgement import check_responds, problems
from keras_dae.train.tensorflow_errors import in_one_line

PICTURED = 10  # test images in samples.png


@in_one_line()
def write_results(
    run: Path, config: TrainConfig, dataset: DatasetSplits, model: keras.Model, history: list[HistoryRow]
) -> None:
    """Measure a trained model on the noisy test images, and write all files of the run except config.json.

    Args:
        run: the run folder.
        config: `TrainConfig`.
        dataset: the images that the model was trained with.
        model: the trained network.
        history: one row per epoch.

    Raises:
        UserError: the output of the model is not finite or does not depend on its input, or a file cannot be written.
    """
    noisy, clean = evaluation_images(dataset.test, config)
    denoised = run_in_batches(model.predict_on_batch, noisy)
    check_responds(model, noisy, denoised)
    denoised = denoised.clip(0, 1)  # as every export does
    save_model(model, run / "model.keras")
    with atomic_file(run / "history.csv") as temporary:
        write_history(temporary, history)

    image_index = dataset.test.image_index
    of_noisy, of_test = (ImageMetrics(**mean_metrics(clean, images, image_index)) for images in (noisy, denoised))
    metrics = RunMetrics(
        dataset=dataset.name,
        dataset_sha256=dataset.sha256,
        images=dataset.test.image_count,
        patches=dataset.test.patch_count,
        noise=NoiseSetting.of(config),
        clip=config.clip,
        test=of_test,
        noisy=of_noisy,
        median=ImageMetrics(**mean_metrics(clean, median(noisy), image_index)),
        parameters=model.count_params(),
        epochs=len(history),
        training_seconds=round(sum(row["seconds"] for row in history), 1),
        problems=problems(of_noisy, of_test, clean, denoised),
    )
    write_metrics(run / "metrics.json", metrics)

    images, noise = describe_images(metrics.images, metrics.patches), metrics.noise.describe()
    shown = np.linspace(0, len(clean) - 1, min(PICTURED, len(clean))).astype(int)
    plot_samples(
        run / "samples.png",
        clean[shown],
        noisy[shown],
        denoised[shown],
        f"{dataset.name}, {noise}: {metrics.noisy.psnr:.1f} dB noisy, "
        f"{metrics.test.psnr:.1f} dB denoised (mean of {images})",
    )
    plot_loss(run / "loss.png", history, f"{dataset.name}, {noise}")
    write_model_card(run)
    print(
        f"{images}: MSE {metrics.noisy.mse:.4f} noisy, {metrics.test.mse:.4f} denoised; "
        f"PSNR {metrics.noisy.psnr:.2f} dB noisy, {metrics.test.psnr:.2f} dB denoised"
    )
    for problem in metrics.problems:
        print(f"*** {problem}. ***", file=sys.stderr)
