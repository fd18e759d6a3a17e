"""The model card: README.md of a run folder, written from the run's own files."""

from pathlib import Path

from keras_dae.files import read_json, whole_file

TEMPLATE = """\
# {title}

A denoising autoencoder of {metrics[parameters]:,} parameters
(Conv2d {channels}→16→32→64, ConvTranspose2d 64→32→16→{channels}), trained with
keras_dae {versions[keras_dae]} on {dataset[training_images]:,} images of **{dataset[name]}**.
{fallback}
![original, noisy, denoised](samples.png)

| {metrics[images]:,} test images | MSE | PSNR (dB) | SSIM |
|---|---|---|---|
| noisy input | {noisy[mse]:.4f} | {noisy[psnr]:.2f} | {noisy[ssim]:.3f} |
| denoised | {test[mse]:.4f} | {test[psnr]:.2f} | {test[ssim]:.3f} |

Noise: {noise}. Means over the test images, each measured on its *noisy* version; the noise is the same for
every model. Written by `python -m keras_dae.train`; figures from metrics.json.

## Trained again

`python -m keras_dae.train --config config.json --output-dir again`

config.json holds every value, the checksum of the images and the versions of the libraries.

## Used

```python
import keras

model = keras.models.load_model("model.keras")  # built-in layers only: keras_dae is not needed
# float32 (batch, height, width, {channels}) in [0, 1]; height and width multiples of 4, at least 20
denoised = model.predict(noisy)
```

## Limits

It has seen images of {dataset[name]} with this noise; other images and other noise are likely to come out worse.
"""
FALLBACK = """
> **Not MNIST.** MNIST was neither at hand nor could it be downloaded, so the built-in digits were used.
"""


def write_model_card(run):
    """Write README.md into the folder `run` from its config.json and metrics.json; raises `UserError`."""
    run = Path(run)
    about, metrics = read_json(run / "config.json"), read_json(run / "metrics.json")
    config, dataset = about["config"], about["dataset"]
    fell_back = config["dataset"] == "auto" and dataset["name"] == "digits" and config["noisy_dir"] is None
    text = TEMPLATE.format(
        title=f"Denoiser for {dataset['name']}",
        channels=config["channels"],
        versions=about["versions"],
        dataset=dataset,
        fallback=FALLBACK if fell_back else "",
        metrics=metrics,
        noisy=metrics["noisy"],
        test=metrics["test"],
        noise=" or ".join(metrics["noise"])
        + (f", factor {' to '.join(map(str, metrics['noise_factor']))}" if metrics["noise_factor"] else ""),
    )
    with whole_file(run / "README.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
