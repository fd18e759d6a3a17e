"""The model card: README.md of a run folder, written from the other files of the run."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keras_dae._util.atomic import atomic_file
from keras_dae._util.json_files import expecting, read_json
from keras_dae.errors import printable
from keras_dae.networks import NETWORKS
from keras_dae.noise_names import describe_level
from keras_dae.report.text import describe_images, remarks
from keras_dae.runs.evaluation import Evaluation, read_evaluation
from keras_dae.runs.metrics_file import read_metrics

SUMMARY = """\
# {title}

An {network.title} with {metrics.parameters:,} parameters: {layers}.
Its input is a batch of noisy images of any size, float32 `(batch, height, width, {channels})` in [0, 1]. Its output is
the denoised images, in the same form.
{fallback}
![original, noisy, denoised](samples.png)

## Training

Trained on {dataset[training_images]:,} images of **{dataset[name]}** with {noise}, by keras_dae {versions[keras_dae]}
(TensorFlow {versions[tensorflow]}, Keras {versions[keras]}): {metrics.epochs} epochs of Adam at learning rate
{config[learning_rate]:g} ({config[schedule]}), batches of {config[batch_size]}, {loss},
{metrics.training_seconds:,.0f} s. config.json holds every setting and the checksum of the images (SHA-256
`{dataset[sha256]}`). To repeat the training, run
`python -m keras_dae.train --config config.json --output-dir again`.
{earlier}
## Results

Means over {images} that were not used in training, with {noise}. The noise is the same for every
model. Written by `python -m keras_dae.train` from metrics.json.

| | MSE | PSNR (dB) | SSIM |
|---|---|---|---|
"""
EARLIER = """
The training was interrupted and continued with other {name}, so its bits cannot be repeated. It began with {began}.
"""
FALLBACK = """
> **Not MNIST.** MNIST was not found on disk and could not be downloaded, so the built-in digits were used instead.
"""
EVALUATION = """
### At other noise levels

{images} of {dataset}, {noise}; mean PSNR in dB. Written by `python -m keras_dae.evaluate` from
[evaluation.json](evaluation/evaluation.json), which also has MSE, SSIM and 95 % confidence intervals.

![PSNR against the noise level](evaluation/psnr.png)

{table}

{remarks}
"""
EXPORTS = """
## Exports

Each export was run in a process without Keras, and its output was compared with the output of model.keras, pixel by
pixel. Written by `python -m export` from parity.json.

| export | largest difference, or loss of PSNR |
|---|---|
"""
USAGE = """
## Usage

In this folder. `python -m export .` writes the exports that are missing. With keras_dae, for image files, without
starting TensorFlow:

```bash
python -m keras_dae.denoise scans/ --model . --output-dir denoised
```

With Keras. The model has only built-in layers, so keras_dae is not needed. Height and width must be
multiples of {geometry.multiple}, at least {geometry.min_padded_size}:

```python
import keras

denoised = keras.models.load_model("model.keras").predict(noisy).clip(0, 1)
```

With onnxruntime, for any size:

```python
import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before the import: onnxruntime sends nothing to its maker
import onnxruntime

(denoised,) = onnxruntime.InferenceSession("model.onnx").run(["denoised"], {{"noisy": noisy}})
```

With TensorFlow Serving, for any size. The signature `denoise_image` takes and returns PNG files in base64:

```bash
docker run -p 127.0.0.1:8501:8501 -v "$PWD/saved_model:/models/denoiser" -e MODEL_NAME=denoiser tensorflow/serving
curl --data '{{"instances": [[[{example}, …], …], …]}}' http://127.0.0.1:8501/v1/models/denoiser:predict
```
"""
LIMITS = """
## Limits

- The model was trained on images of {dataset[name]} with {noise}. On other images or noise it is likely to do worse. To
  measure it: `python -m keras_dae.evaluate . --dataset FOLDER --noise NAME --noise-factor LEVELS
  --output-dir measured`.
- The training minimizes the {loss}. Where the noise hides the original, the output is the {middle} of what it
  could have been. That is blurred, it may be wrong, and nothing in the output says where. Do not use it alone to decide
  what a mark on a document, a part or a body is.
- An output pixel depends on at most {geometry.receptive_radius} pixels to each side. Noise that varies over longer
  distances, such as bands, is not removed.
"""


def write_model_card(run: str | os.PathLike) -> None:
    """Write README.md into a run folder from the other files of the run.

    A folder without metrics.json, such as one of imported weights, gets no model card.

    Raises:
        UserError: see `card_text`, or README.md cannot be written.
    """
    run = Path(run)
    if not (run / "metrics.json").is_file():
        return
    text = card_text(run)
    with atomic_file(run / "README.md") as temporary:
        temporary.write_text(text, encoding="utf-8")


def card_text(folder: str | os.PathLike, usage: str = USAGE) -> str:
    """Return the model card of a folder with config.json and metrics.json.

    The evaluation and the exports are described if there are evaluation/evaluation.json and parity.json.

    Args:
        folder: a run folder, or one for the Hugging Face hub.
        usage: the section on how to use the model, a template like USAGE.

    Raises:
        UserError: a file is missing or is not as this package writes it.
    """
    with expecting(f"the JSON files in {folder}"):
        return _card_text(Path(folder), usage)


def _card_text(folder: Path, usage: str) -> str:
    content, metrics = read_json(folder / "config.json"), read_metrics(folder / "metrics.json")
    config, dataset = content["config"], content["dataset"] | {"name": printable(content["dataset"]["name"])}
    fell_back = config["dataset"] == "auto" and dataset["name"] == "digits" and config["noisy_dir"] is None
    network = NETWORKS[config.get("network", "autoencoder")]
    values = {
        "title": f"Denoiser for {dataset['name']}",
        "network": network,
        "loss": "mean absolute error" if config.get("loss") == "l1" else "mean squared error",
        "middle": "median" if config.get("loss") == "l1" else "mean",
        "layers": network.describe(config["channels"]),
        "geometry": network.geometry,
        "channels": config["channels"],
        "example": "[0.1]" if config["channels"] == 1 else "[0.1, 0.2, 0.3]",
        "fallback": FALLBACK if fell_back else "",
        "noise": metrics.noise.describe(),
        "versions": content["versions"],
        "earlier": _earlier(content, "versions", "versions")
        + _earlier(content, "conditions", "settings of the machine"),
        "config": config,
        "dataset": dataset,
        "metrics": metrics,
        "images": describe_images(metrics.images, metrics.patches),
    }
    text = SUMMARY.format(**values)
    for name, means in (
        ("noisy input", metrics.noisy),
        ("3×3 median", metrics.median),
        ("**denoised**", metrics.test),
    ):
        text += f"| {name} | {means.mse:.5f} | {means.psnr:.2f} | {means.ssim:.3f} |\n"
    text += "".join(f"\n> **Warning.** {printable(problem)}.\n" for problem in metrics.problems)
    if (folder / "evaluation" / "evaluation.json").is_file():
        text += _evaluation_section(read_evaluation(folder / "evaluation" / "evaluation.json"))
    if (folder / "parity.json").is_file():
        text += EXPORTS + "".join(_export_rows(read_json(folder / "parity.json")))
    return text + usage.format(**values) + LIMITS.format(**values)


def _earlier(content: dict[str, Any], kind: str, name: str) -> str:
    """Return the sentences on the versions or conditions that began an interrupted training; "" if there are none.

    Args:
        content: of config.json.
        kind: `versions` or `conditions`, as config.json names them.
        name: the same in words.
    """
    earlier = content.get(f"earlier_{kind}", ())
    if not earlier:
        return ""
    began = (", ".join(f"{key} {value}" for key, value in values.items()) for values in earlier)
    return EARLIER.format(name=name, began="; then ".join(began))


def _evaluation_section(evaluation: Evaluation) -> str:
    """Return the section with mean PSNR by contender and noise level, and the remarks."""
    head = ["noise", *(describe_level(level.noise_factor) or "real" for level in evaluation.levels)]
    rows = [
        [printable(results[0].name), *(f"{result.psnr.mean:.2f}" for result in results)]
        for results in evaluation.contenders
    ]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|", *(f"| {' | '.join(row)} |" for row in rows)]
    return EVALUATION.format(
        images=describe_images(evaluation.images, evaluation.patches),
        dataset=printable(evaluation.dataset),
        noise=evaluation.described_noise,
        table="\n".join(lines),
        remarks="\n".join(f"- {sentence}." for sentence in remarks(evaluation)),
    )


def _export_rows(parity: dict[str, Any]) -> Iterator[str]:
    """Yield a row of the table of exports for each entry of parity.json."""
    for name, entry in parity.items():
        if "psnr_lost_db" in entry:
            yield f"| {name} | {entry['psnr_lost_db']:.3f} dB |\n"
        elif "max_abs_error" in entry:
            yield f"| {name} | {entry['max_abs_error']:.2g} |\n"
