"""A folder to upload to the Hugging Face hub: the network in Keras and ONNX, and a model card with the hub's header."""

import hashlib
import json
import os
import shutil
from pathlib import Path

from export.run import FILES, check_run
from keras_dae._util.atomic import folder_to_replace, locked, remove_old, staged_folder
from keras_dae._util.json_files import expecting, read_json, write_json
from keras_dae.errors import UserError, printable
from keras_dae.report.model_card import card_text
from keras_dae.report.text import METRICS, level_name, noise_name
from keras_dae.runs.folder import check_replaceable

COPIED = ("metrics.json", "model.keras", "samples.png")
ONNX_FILES = {"onnx": "onnx/model.onnx", "int8": "onnx/model_quantized.onnx"}  # names that transformers.js looks for
NAMES = {*COPIED, "README.md", "config.json", "evaluation", "onnx", "parity.json"}
HUB_DATASETS = {"mnist": "ylecun/mnist", "fashion_mnist": "zalando-datasets/fashion_mnist"}
PATHS = ("dataset", "data_dir", "noisy_dir", "clean_dir")  # values of the config that may be paths
# Strings come in as JSON, which is YAML too.
HEADER = """\
---
library_name: keras
pipeline_tag: image-to-image
license: apache-2.0
tags:
- keras
- onnx
- denoising
- autoencoder
{datasets}model-index:
- name: {title}
  results:
  - task:
      type: image-to-image
      name: Image denoising
    dataset:
      type: {type}
      name: {name}
      split: test
    metrics:
{metrics}---
"""
METRIC = """\
    - type: {type}
      name: {name}
      value: {value:.6f}
"""
USED = """
## Used

In a copy of this repository. Keras; built-in layers only; heights and widths must be multiples of 4, at least 20:

```python
import keras

denoised = keras.models.load_model("model.keras").predict(noisy)
```

onnxruntime; any size; `onnx/model_quantized.onnx`, where it is there, computes with 8 bits:

```python
import onnxruntime

(denoised,) = onnxruntime.InferenceSession("onnx/model.onnx").run(["denoised"], {{"noisy": noisy}})
```

keras_dae; any image files:

```bash
python -m keras_dae.denoise scans/ --model onnx/model.onnx --output-dir denoised
```
"""


def export_hub(run, output_dir, overwrite=False):
    """Write a run as a folder for the Hugging Face hub, whole or not at all; return its ONNX files, format -> path.

    Its exports are proven once more first. What the folder says of the training holds no path of this machine.

    Args:
        run: folder of a finished training, with model.onnx; model.int8.onnx comes along where it is there.
        output_dir: the folder to make.
        overwrite: whether it may replace one that this function made.

    Raises:
        UserError: the run lacks something, or the folder is there already or cannot be written.
        ParityError: an export does not compute what model.keras does.
    """
    run, target = Path(run), folder_to_replace(output_dir)
    if missing := [name for name in ("config.json", *COPIED) if not os.path.isfile(run / name)]:
        raise UserError(f"expected the folder of a finished training, got {run}, which has no {', '.join(missing)}")
    if missing := [name for name in ("model.onnx", "parity.json") if not os.path.isfile(run / name)]:
        raise UserError(f"{run} has no {' and no '.join(missing)}; python -m export {run} makes and proves them")
    check_replaceable(target, "a model for the hub", _is_hub_folder, overwrite)
    with locked(target):
        entries, paths = check_run(run, [name for name in ONNX_FILES if (run / FILES[name]).exists()])
        with staged_folder(target) as folder:
            _fill(folder, run, entries, paths)
        remove_old(target)
    return {name: target / ONNX_FILES[name] for name in paths}


def _is_hub_folder(folder):
    found = {path.name for path in folder.iterdir()}
    return found <= NAMES and (folder / ONNX_FILES["onnx"]).is_file()


def _fill(folder, run, entries, paths):
    """Write all files of the hub's folder; `entries` and `paths` are what `check_run` returned."""
    for name in COPIED:
        shutil.copyfile(run / name, folder / name)
    if (run / "evaluation" / "evaluation.json").is_file():
        shutil.copytree(run / "evaluation", folder / "evaluation")
    (folder / "onnx").mkdir()
    proof, before = {}, read_json(run / "parity.json")
    for name, path in paths.items():
        shutil.copyfile(path, folder / ONNX_FILES[name])
        checksum = hashlib.sha256((folder / ONNX_FILES[name]).read_bytes()).hexdigest()
        proof[name] = before.get(name, {}) | entries[name] | {"file": ONNX_FILES[name], "sha256": checksum}
    write_json(folder / "parity.json", proof)
    with expecting(run / "config.json"):
        write_json(folder / "config.json", without_paths(read_json(run / "config.json")))
    with expecting(run / "metrics.json"):
        text = header(read_json(run / "metrics.json")) + card_text(folder, USED)
    (folder / "README.md").write_text(text, encoding="utf-8")


def without_paths(about):
    """Return the content of a config.json with the last names of paths only, and no list of skipped files."""
    config = about["config"]
    names = {place: os.path.basename(os.path.abspath(config[place])) for place in PATHS if config[place]}
    return about | {"config": config | names, "dataset": about["dataset"] | {"skipped": []}}


def header(metrics):
    """Return the hub's metadata, YAML between lines of dashes, from the content of a metrics.json."""
    dataset = printable(metrics["dataset"])
    noise = f"{noise_name(metrics)} {level_name(metrics['noise_factor'])}".strip()
    return HEADER.format(
        datasets=f"datasets:\n- {HUB_DATASETS[dataset]}\n" if dataset in HUB_DATASETS else "",
        title=_quoted(f"Denoiser for {dataset}"),
        type=_quoted(HUB_DATASETS.get(dataset, dataset)),
        name=_quoted(f"{dataset} with {noise}"),
        metrics="".join(
            METRIC.format(type=key, name=name, value=metrics["test"][key]) for key, name in METRICS.items()
        ),
    )


def _quoted(text):
    return json.dumps(text, ensure_ascii=False)
