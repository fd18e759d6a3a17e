"""The model card: README.md of a run folder, written from the run's own files."""

from pathlib import Path

from keras_dae._util.atomic import atomic_file
from keras_dae._util.json_files import expecting, read_json
from keras_dae.errors import printable
from keras_dae.report.text import images_name, level_name, noise_name, remarks

WHAT = """\
# {title}

An image-denoising autoencoder of {metrics[parameters]:,} parameters: Conv2d {channels}→16→32→64, ConvTranspose2d
64→32→16→{channels}, ReLU, and a sigmoid at the end. It takes noisy images of any size, float32
`(batch, height, width, {channels})` in [0, 1], and gives them back denoised.
{fallback}
![original, noisy, denoised](samples.png)

## Trained on

{dataset[training_images]:,} images of **{dataset[name]}** with {noise}, by keras_dae {versions[keras_dae]}
(TensorFlow {versions[tensorflow]}, Keras {versions[keras]}): {metrics[epochs]} epochs of Adam at learning rate
{config[learning_rate]:g} ({config[schedule]}), batches of {config[batch_size]}, mean squared error,
{metrics[training_seconds]:,.0f} s. config.json holds every value and the checksum of the images (SHA-256
`{dataset[sha256]}`);
`python -m keras_dae.train --config config.json --output-dir again` trains it again.

## Measured

Means over {measured} that the training never saw, with {noise}. What is denoised is the *noisy*
image; its noise is the same for every model. Written by `python -m keras_dae.train`, from metrics.json.

| | MSE | PSNR (dB) | SSIM |
|---|---|---|---|
"""
FALLBACK = """
> **Not MNIST.** MNIST was neither at hand nor could it be downloaded, so the built-in digits were used.
"""
EVALUATED = """
### At other levels of noise

{measured} of {dataset}, {noise}; mean PSNR in dB. Written by `python -m keras_dae.evaluate`, from
[evaluation.json](evaluation/evaluation.json), which also has MSE, SSIM and 95 % intervals.

![PSNR against the noise level](evaluation/psnr.png)

{table}

{remarks}
"""
EXPORTED = """
## Exports

Each was run in a process without Keras and compared with model.keras, pixel by pixel. Written by `python -m export`,
from parity.json.

| artefact | largest difference, or PSNR lost |
|---|---|
"""
USED = """
## Used

In this folder; `python -m export .` makes the exports that are not in it. With keras_dae, any image files, without
starting TensorFlow:

```bash
python -m keras_dae.denoise scans/ --model . --output-dir denoised
```

In Keras; built-in layers only, so keras_dae is not needed; heights and widths must be multiples of 4, at least 20:

```python
import keras

denoised = keras.models.load_model("model.keras").predict(noisy)
```

In onnxruntime; any size:

```python
import onnxruntime

(denoised,) = onnxruntime.InferenceSession("model.onnx").run(["denoised"], {{"noisy": noisy}})
```

In TensorFlow Serving; any size; the signature `denoise_image` takes and gives PNG files as base64:

```bash
docker run -p 127.0.0.1:8501:8501 -v "$PWD/saved_model:/models/denoiser" -e MODEL_NAME=denoiser tensorflow/serving
curl --data '{{"instances": [[[{example}, …], …], …]}}' http://127.0.0.1:8501/v1/models/denoiser:predict
```
"""
LIMITS = """
## Limits

- It knows images of {dataset[name]} with {noise}. Others are likely to come out worse; measure it:
  `python -m keras_dae.evaluate . --dataset FOLDER --noise NAME --noise-factor LEVELS`.
- It was trained for the least mean squared error: where the noise hides what was there, it gives the mean of what could
  have been, which is blurred, and may be wrong. It does not say where. Do not let it decide what a mark on a document,
  a part or a body is.
- A pixel depends on at most 22 pixels to each side; noise that varies over longer distances, such as bands, is left.
"""


def write_model_card(run):
    """Write README.md into the folder `run` from its other files; raises `UserError`.

    A folder without metrics.json, such as one of imported weights, gets none.
    """
    run = Path(run)
    if not (run / "metrics.json").is_file():
        return
    text = card_text(run)
    with atomic_file(run / "README.md") as temporary:
        temporary.write_text(text, encoding="utf-8")


def card_text(folder, used=USED):
    """Return the model card of a folder with config.json and metrics.json, and evaluation and parity where known.

    Args:
        folder: path.
        used: the section on how it is used, a template like USED.

    Raises:
        UserError: a file is missing or is not as this package writes it.
    """
    with expecting(f"the JSON files in {folder}"):
        return _text(Path(folder), used)


def _text(run, used):
    about, metrics = read_json(run / "config.json"), read_json(run / "metrics.json")
    config, dataset = about["config"], about["dataset"] | {"name": printable(about["dataset"]["name"])}
    fell_back = config["dataset"] == "auto" and dataset["name"] == "digits" and config["noisy_dir"] is None
    values = {
        "title": f"Denoiser for {dataset['name']}",
        "channels": config["channels"],
        "example": "[0.1]" if config["channels"] == 1 else "[0.1, 0.2, 0.3]",
        "fallback": FALLBACK if fell_back else "",
        "noise": f"{noise_name(metrics)} {level_name(metrics['noise_factor'])}".strip(),
        "versions": about["versions"],
        "config": config,
        "dataset": dataset,
        "metrics": metrics,
        "measured": images_name(metrics),
    }
    text = WHAT.format(**values)
    for name, key in (("noisy input", "noisy"), ("3×3 median", "median"), ("**denoised**", "test")):
        if key in metrics:
            text += "| {} | {mse:.5f} | {psnr:.2f} | {ssim:.3f} |\n".format(name, **metrics[key])
    if (run / "evaluation" / "evaluation.json").is_file():
        evaluation = read_json(run / "evaluation" / "evaluation.json")
        text += EVALUATED.format(
            measured=images_name(evaluation),
            dataset=printable(evaluation["dataset"]),
            noise=noise_name(evaluation),
            table=_psnr_table(evaluation),
            remarks="\n".join(f"- {sentence}." for sentence in remarks(evaluation)),
        )
    if (run / "parity.json").is_file():
        text += EXPORTED + "".join(_parity_rows(read_json(run / "parity.json")))
    return text + used.format(**values) + LIMITS.format(**values)


def _psnr_table(evaluation):
    levels = evaluation["levels"]
    lines = ["| noise | " + " | ".join(level_name(level["noise_factor"]) or "real" for level in levels) + " |"]
    lines.append("|---" * (len(levels) + 1) + "|")
    for row in zip(*(level["results"] for level in levels)):
        lines.append(f"| {printable(row[0]['name'])} | " + " | ".join(f"{r['psnr']['mean']:.2f}" for r in row) + " |")
    return "\n".join(lines)


def _parity_rows(parity):
    for name, entry in parity.items():
        if "psnr_lost_db" in entry:
            yield f"| {name} | {entry['psnr_lost_db']:.3f} dB |\n"
        elif "max_abs_error" in entry:
            yield f"| {name} | {entry['max_abs_error']:.2g} |\n"
