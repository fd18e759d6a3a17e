"""What a finished training leaves in its run folder: model, history, metrics, pictures and model card."""

import numpy as np

from keras_dae._util.batches import run_in_batches
from keras_dae._util.json_files import write_json
from keras_dae.data.batches import evaluation_images
from keras_dae.evaluate.baselines import median
from keras_dae.metrics import mean_metrics
from keras_dae.networks.keras_file import save_model
from keras_dae.report.model_card import write_model_card
from keras_dae.report.plots import plot_loss, plot_samples
from keras_dae.report.text import images_name, level_name, noise_name
from keras_dae.train.checkpoint import write_history

PICTURED = 10  # test images in samples.png


def report(run, config, dataset, model, history):
    """Measure `model` on the noisy test images, and write all files but config.json into the folder `run`.

    Args:
        run: path of the run folder.
        config: `TrainConfig`.
        dataset: `keras_dae.data.splits.DatasetSplits`.
        model: the trained `keras.Model`.
        history: list of rows, see `keras_dae.train.checkpoint`.

    Raises:
        UserError: a file cannot be written.
    """
    save_model(model, run / "model.keras")
    write_history(run / "history.csv", history)

    noisy, clean = evaluation_images(dataset.test, config)
    denoised = run_in_batches(model.predict_on_batch, noisy)
    metrics = {
        "dataset": dataset.name,
        "dataset_sha256": dataset.sha256,
        "images": dataset.test.image_count,
        **({} if dataset.test.patch_count is None else {"patches": dataset.test.patch_count}),
        "noise": ["real pairs"] if config.has_pairs else list(config.noise),
        "noise_factor": None if config.has_pairs else list(config.noise_factor),
        "clip": config.clip,
        "test": mean_metrics(clean, denoised, dataset.test.image_index),
        "noisy": mean_metrics(clean, noisy, dataset.test.image_index),
        "median": mean_metrics(clean, median(noisy), dataset.test.image_index),
        "parameters": model.count_params(),
        "epochs": len(history),
        "training_seconds": round(sum(row["seconds"] for row in history), 1),
    }
    write_json(run / "metrics.json", metrics)

    noise = f"{noise_name(metrics)} {level_name(metrics['noise_factor'])}".strip()
    shown = np.linspace(0, len(clean) - 1, min(PICTURED, len(clean))).astype(int)
    plot_samples(
        run / "samples.png",
        clean[shown],
        noisy[shown],
        denoised[shown],
        f"{dataset.name}, {noise}: {metrics['noisy']['psnr']:.1f} dB noisy, "
        f"{metrics['test']['psnr']:.1f} dB denoised (mean of {images_name(metrics)})",
    )
    plot_loss(run / "loss.png", history, f"{dataset.name}, {noise}")
    write_model_card(run)
    print(
        f"{images_name(metrics)}: MSE {metrics['noisy']['mse']:.4f} noisy, {metrics['test']['mse']:.4f} denoised; "
        f"PSNR {metrics['noisy']['psnr']:.2f} dB noisy, {metrics['test']['psnr']:.2f} dB denoised"
    )
