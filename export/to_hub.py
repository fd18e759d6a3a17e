"""A folder to upload to the Hugging Face hub: the network in Keras and ONNX, and a model card with the hub's header."""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from export.artefacts import ARTEFACT_NAMES
from export.recheck import check_run
from keras_dae._util.atomic import folder_to_replace, locked, remove_old, staged_folder
from keras_dae._util.json_files import expecting, read_json, write_json
from keras_dae.config import PATH_FIELDS
from keras_dae.errors import UserError, printable
from keras_dae.report.model_card import card_text
from keras_dae.report.text import METRIC_TITLES
from keras_dae.runs.folder import check_replaceable
from keras_dae.runs.metrics_file import RunMetrics, read_metrics

COPIED_FILES = ("metrics.json", "model.keras", "samples.png")
HUB_FILES = {"onnx": "onnx/model.onnx", "int8": "onnx/model_quantized.onnx"}  # transformers.js looks for these names
ALL_NAMES = {*COPIED_FILES, "README.md", "config.json", "evaluation", "onnx", "parity.json"}
HUB_DATASETS = {"mnist": "ylecun/mnist", "fashion_mnist": "zalando-datasets/fashion_mnist"}
# Strings are inserted as JSON, which is also valid YAML.
HEADER = """\
---
library_name: keras
pipeline_tag: image-to-image
license: apache-2.0
tags:
- keras
- onnx
- denoising
- {network}
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
USAGE = """
## Usage

In a copy of this repository. With Keras; only built-in layers; heights and widths must be multiples of \
{geometry.multiple}, at least {geometry.min_padded_size}:

```python
import keras

denoised = keras.models.load_model("model.keras").predict(noisy).clip(0, 1)
```

With onnxruntime; any size; `onnx/model_quantized.onnx`, if present, computes with 8 bits:

```python
import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before the import: onnxruntime sends nothing to its maker
import onnxruntime

(denoised,) = onnxruntime.InferenceSession("onnx/model.onnx").run(["denoised"], {{"noisy": noisy}})
```

With keras_dae; any image files:

```bash
python -m keras_dae.denoise scans/ --model onnx/model.onnx --output-dir denoised
```
"""


def export_hub(run: str | os.PathLike, output_dir: str | os.PathLike, overwrite: bool = False) -> dict[str, Path]:
    """Write a run as a folder for the Hugging Face hub, atomically. Return its ONNX files, format -> path.

    The exports are verified once more before they are copied. Paths of this machine are removed from the config.

    Args:
        run: folder of a finished training with model.onnx. model.int8.onnx is included if it exists.
        output_dir: the folder to write.
        overwrite: whether it may replace a folder that this function made.

    Raises:
        UserError: the run lacks a file, or the folder exists already or cannot be written.
        ParityError: an export does not compute what model.keras computes.

    Example::

        from export import export_hub

        export_hub("saved_models/scans", "hub/mnist-denoiser")
    """
    run, target = Path(run), folder_to_replace(output_dir)
    if missing := [name for name in ("config.json", *COPIED_FILES) if not os.path.isfile(run / name)]:
        raise UserError(f"expected the folder of a finished training, got {run}, which has no {', '.join(missing)}")
    if missing := [name for name in ("model.onnx", "parity.json") if not os.path.isfile(run / name)]:
        raise UserError(f"{run} has no {' and no '.join(missing)}; python -m export {run} makes and verifies them")
    check_replaceable(target, "a model for the hub", _is_hub_folder, overwrite)
    with locked(target):
        entries, paths = check_run(run, [name for name in HUB_FILES if (run / ARTEFACT_NAMES[name]).exists()])
        with staged_folder(target) as folder:
            _fill(folder, run, entries, paths)
        remove_old(target)
    return {name: target / HUB_FILES[name] for name in paths}


def _is_hub_folder(folder: Path) -> bool:
    found = {path.name for path in folder.iterdir()}
    return found <= ALL_NAMES and (folder / HUB_FILES["onnx"]).is_file()


def _fill(folder: Path, run: Path, entries: dict[str, dict], paths: dict[str, Path]) -> None:
    """Write all files of the folder for the hub. `entries` and `paths` are what `check_run` returned."""
    for name in COPIED_FILES:
        shutil.copyfile(run / name, folder / name)
    if (run / "evaluation" / "evaluation.json").is_file():
        shutil.copytree(run / "evaluation", folder / "evaluation")
    (folder / "onnx").mkdir()
    parity, before = {}, read_json(run / "parity.json")
    for name, path in paths.items():
        shutil.copyfile(path, folder / HUB_FILES[name])
        checksum = hashlib.sha256((folder / HUB_FILES[name]).read_bytes()).hexdigest()
        parity[name] = before.get(name, {}) | entries[name] | {"file": HUB_FILES[name], "sha256": checksum}
    write_json(folder / "parity.json", parity)
    with expecting(run / "config.json"):
        content = read_json(run / "config.json")
        write_json(folder / "config.json", without_paths(content))
        network = content["config"].get("network", "autoencoder")
    with expecting(run / "metrics.json"):
        text = header(read_metrics(run / "metrics.json"), network) + card_text(folder, USAGE)
    (folder / "README.md").write_text(text, encoding="utf-8")


def without_paths(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a config.json with paths cut to their last name, and without the list of skipped files."""
    config = content["config"]
    names = {option: os.path.basename(os.path.abspath(config[option])) for option in PATH_FIELDS if config[option]}
    return {**content, "config": config | names, "dataset": content["dataset"] | {"skipped": []}}


def header(metrics: RunMetrics, network: str = "autoencoder") -> str:
    """Return the hub's metadata, YAML between lines of dashes, for a name of `keras_dae.networks.NETWORKS`."""
    dataset = printable(metrics.dataset)
    return HEADER.format(
        network=network,
        datasets=f"datasets:\n- {HUB_DATASETS[dataset]}\n" if dataset in HUB_DATASETS else "",
        title=_quoted(f"Denoiser for {dataset}"),
        type=_quoted(HUB_DATASETS.get(dataset, dataset)),
        name=_quoted(f"{dataset} with {metrics.noise.describe()}"),
        metrics="".join(
            METRIC.format(type=name, name=title, value=getattr(metrics.test, name))
            for name, title in METRIC_TITLES.items()
        ),
    )


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
