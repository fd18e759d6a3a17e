"""Build the site: one folder with the page, the models, a photograph, test digits and onnxruntime-web."""

import gzip
import json
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from export.web.runtime import copy_runtime
from keras_dae._util.atomic import folder_to_replace, locked, staged_folder
from keras_dae.data.digits import render_digits
from keras_dae.denoise.denoiser import Denoiser, load_denoiser
from keras_dae.errors import UserError
from keras_dae.runs.folder import check_replaceable

STATIC_FILES = Path(__file__).parent / "static"
PHOTOGRAPH = "photograph.jpg"  # among STATIC_FILES; only sites with a model for photographs have it
SPRITE_SIDE = 10  # digits along each side of the picture of test digits

NamedRuns = Sequence[tuple[str, str | os.PathLike]]  # name on the page, run folder


def build_site(
    output_dir: str | os.PathLike,
    models: NamedRuns | None = None,
    node_modules: str | os.PathLike | None = None,
    overwrite: bool = False,
) -> Path:
    """Write the site into a folder, atomically. Return the folder.

    Models for grey images of one fixed size are for the tab with digits. All others are for the tab with photographs.
    The site has the float model of each run, and the 8-bit model of the first run for digits, to compare. 8-bit models
    suit only images like the training images.

    Args:
        output_dir: the folder to write.
        models: pairs of the name on the page and a run folder with model.onnx; None for the shipped models.
        node_modules: see `copy_runtime`.
        overwrite: whether an existing site is replaced.

    Raises:
        UserError: the folder exists already or cannot be written; a model cannot be loaded; or onnxruntime-web is
            not available.
    """
    target = folder_to_replace(output_dir)
    models = _shipped_models() if models is None else models
    check_replaceable(target, "a site", lambda folder: (folder / "models.js").is_file(), overwrite)
    with locked(target), staged_folder(target) as site:
        entries = _write_models(site, models)
        photographs = any(entry["tab"] == "photograph" for entry in entries)
        for file in STATIC_FILES.iterdir():
            if photographs or file.name != PHOTOGRAPH:
                shutil.copyfile(file, site / file.name)
        copy_runtime(site / "ort", node_modules, webgpu=photographs)
        _write_digits(site / "digits.png")
    return target


def _shipped_models() -> NamedRuns:
    from keras_dae.pretrained import MODEL_NAMES, model_folder

    return [(name, model_folder(name)) for name in MODEL_NAMES]


def _write_models(site: Path, models: NamedRuns) -> list[dict[str, Any]]:
    """Write models/*.onnx.gz, and models.js, which lists them. Return the list."""
    names = [name for name, _ in models]
    if bad := [name for name in names if not re.fullmatch(r"[\w.+-]+", name) or names.count(name) > 1]:
        raise UserError(f"expected different names of letters, digits and . _ + -; got {bad[0]!r}")
    (site / "models").mkdir()
    entries: list[dict[str, Any]] = []
    for name, run in models:
        is_first = not any(entry["tab"] == "digits" for entry in entries)
        entries.append(_write_model(site, name, "float", Path(run, "model.onnx")))
        int8 = Path(run, "model.int8.onnx")
        if entries[-1]["tab"] == "digits" and is_first and int8.is_file():
            entries.append(_write_model(site, name, "int8", int8))
    (site / "models.js").write_text(f"export default {json.dumps(entries, indent=2)};\n", encoding="utf-8")
    return entries


def _write_model(site: Path, name: str, precision: Literal["float", "int8"], file: Path) -> dict[str, Any]:
    """Write one models/*.onnx.gz. Return its entry of models.js."""
    denoiser = load_denoiser(file)
    content = file.read_bytes()
    url = f"models/{name}.{precision}.onnx.gz"
    (site / url).write_bytes(gzip.compress(content, mtime=0))
    entry = {"id": f"{name}-{precision}", "name": name, "format": precision, "url": url, "bytes": len(content)}
    return entry | _describe(denoiser)


def _describe(denoiser: Denoiser) -> dict[str, Any]:
    """Return what models.js says about a network and its training."""
    metadata = denoiser.session.get_modelmeta().custom_metadata_map
    grid, trained_on = denoiser.grid, denoiser.trained_on
    return {
        "channels": denoiser.channels,
        "tab": "photograph" if trained_on.size is None or denoiser.channels == 3 else "digits",
        "grid": {"multiple": grid.multiple, "min_padded_size": grid.min_padded_size, "halo": grid.halo},
        "trained_on": trained_on.describe() if trained_on.dataset else "",
        **{key: metadata[key] for key in ("dataset", "noise", "noise_factor") if key in metadata},
    }


def _write_digits(path: Path) -> None:
    """Write the first of the built-in test digits as one picture of SPRITE_SIDE × SPRITE_SIDE tiles."""
    images = render_digits(SPRITE_SIDE**2, seed=1)[0]
    height, width = images.shape[1:]
    tiles = images.reshape(SPRITE_SIDE, SPRITE_SIDE, height, width).swapaxes(1, 2)
    sprite = np.ascontiguousarray(tiles.reshape(SPRITE_SIDE * height, SPRITE_SIDE * width))
    Image.fromarray(sprite).save(path, optimize=True)
