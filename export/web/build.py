"""Build the site: one folder with the page, the models, test digits and onnxruntime-web."""

import gzip
import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from export.web.runtime import copy_runtime
from keras_dae._util.atomic import folder_to_replace, locked, staged_folder
from keras_dae.data.digits import render_digits
from keras_dae.denoise.denoiser import load_denoiser
from keras_dae.errors import UserError
from keras_dae.runs.folder import check_replaceable

STATIC_FILES = Path(__file__).parent / "static"
SPRITE_SIDE = 10  # digits along each side of the picture of test digits

NamedRuns = Sequence[tuple[str, str | os.PathLike]]  # name on the page, run folder


def build_site(
    output_dir: str | os.PathLike,
    models: NamedRuns | None = None,
    node_modules: str | os.PathLike | None = None,
    overwrite: bool = False,
) -> Path:
    """Write the site into a folder, atomically. Return the folder.

    The site has the float model of each run, and the 8-bit model of the first run, to compare. 8-bit models suit only
    images like the training images, and the page takes any picture.

    Args:
        output_dir: the folder to write.
        models: pairs of the name on the page and a run folder with model.onnx; None for the shipped models.
        node_modules: see `copy_runtime`.
        overwrite: whether an existing site is replaced.

    Raises:
        UserError: the folder exists already or cannot be written; a model cannot be loaded or takes colour images; or
            onnxruntime-web is not available.
    """
    target = folder_to_replace(output_dir)
    models = _shipped_models() if models is None else models
    check_replaceable(target, "a site", lambda folder: (folder / "models.js").is_file(), overwrite)
    with locked(target), staged_folder(target) as site:
        for file in STATIC_FILES.iterdir():
            shutil.copyfile(file, site / file.name)
        _write_models(site, models)
        copy_runtime(site / "ort", node_modules)
        _write_digits(site / "digits.png")
    return target


def _shipped_models() -> NamedRuns:
    from keras_dae.pretrained import MODEL_NAMES, model_folder

    return [(name, model_folder(name)) for name in MODEL_NAMES]


def _write_models(site: Path, models: NamedRuns) -> None:
    """Write models/*.onnx.gz, and models.js, which lists them."""
    names = [name for name, _ in models]
    if bad := [name for name in names if not re.fullmatch(r"[\w.+-]+", name) or names.count(name) > 1]:
        raise UserError(f"expected different names of letters, digits and . _ + -; got {bad[0]!r}")
    (site / "models").mkdir()
    listed = []
    for name, precision, file in _model_files(models):
        denoiser = load_denoiser(file)
        if denoiser.channels != 1:
            raise UserError(f"expected a model for grey images, got {file} for {denoiser.channels} channels")
        metadata = denoiser.session.get_modelmeta().custom_metadata_map
        content = file.read_bytes()
        url = f"models/{name}.{precision}.onnx.gz"
        (site / url).write_bytes(gzip.compress(content, mtime=0))
        training = {key: metadata[key] for key in ("dataset", "noise", "noise_factor") if key in metadata}
        entry = {"id": f"{name}-{precision}", "name": name, "format": precision, "url": url, "bytes": len(content)}
        listed.append(entry | training)
    (site / "models.js").write_text(f"export default {json.dumps(listed, indent=2)};\n", encoding="utf-8")


def _model_files(models: NamedRuns) -> Iterator[tuple[str, Literal["float", "int8"], Path]]:
    """Yield `(name, precision, path)` of the .onnx files that go into the site."""
    for index, (name, run) in enumerate(models):
        yield name, "float", Path(run, "model.onnx")
        int8 = Path(run, "model.int8.onnx")
        if index == 0 and int8.is_file():
            yield name, "int8", int8


def _write_digits(path: Path) -> None:
    """Write the first of the built-in test digits as one picture of SPRITE_SIDE × SPRITE_SIDE tiles."""
    images = render_digits(SPRITE_SIDE**2, seed=1)[0]
    height, width = images.shape[1:]
    tiles = images.reshape(SPRITE_SIDE, SPRITE_SIDE, height, width).swapaxes(1, 2)
    sprite = np.ascontiguousarray(tiles.reshape(SPRITE_SIDE * height, SPRITE_SIDE * width))
    Image.fromarray(sprite).save(path, optimize=True)
