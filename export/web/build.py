"""Build the site: page, models, test digits and onnxruntime-web, in one folder of files."""

import gzip
import json
import re
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from export.web.runtime import copy_runtime
from keras_dae._util.atomic import folder_to_replace, locked, staged_folder
from keras_dae.data.digits import render_digits
from keras_dae.denoise.denoiser import load_denoiser
from keras_dae.errors import UserError
from keras_dae.runs.folder import check_replaceable

PAGE = Path(__file__).parent / "static"
DIGITS = 10  # to a side of the sprite of test digits


def build_site(output_dir, models=None, node_modules=None, overwrite=False):
    """Write the site into a folder, whole or not at all; return its Path.

    The first model is there in floats and in 8 bits, the others in 8 bits where they have them, which keeps the page
    small.

    Args:
        output_dir: the folder to make.
        models: pairs of a name, as the page shows it, and a run folder with model.onnx, maybe model.int8.onnx; None for
            the shipped ones.
        node_modules: see `copy_runtime`.
        overwrite: whether a site that is there is replaced.

    Raises:
        UserError: the folder is there already, or cannot be written; a model is none of ours, or not grey; or
            onnxruntime-web cannot be had.
    """
    target = folder_to_replace(output_dir)
    models = _shipped() if models is None else models
    check_replaceable(target, "a site", lambda folder: (folder / "models.js").is_file(), overwrite)
    with locked(target), staged_folder(target) as site:
        for file in PAGE.iterdir():
            shutil.copyfile(file, site / file.name)
        _write_models(site, models)
        copy_runtime(site / "ort", node_modules)
        _write_digits(site / "digits.png")
    return target


def _shipped():
    from keras_dae.pretrained import NAMES, path

    return [(name, path(name)) for name in NAMES]


def _write_models(site, models):
    """Write models/*.onnx.gz and models.js, which lists them."""
    names = [name for name, _ in models]
    if odd := [name for name in names if not re.fullmatch(r"[\w.+-]+", name) or names.count(name) > 1]:
        raise UserError(f"expected names of letters, digits and . _ + -, each once; got {odd[0]!r}")
    (site / "models").mkdir()
    listed = []
    for name, kind, file in _files(models):
        denoiser = load_denoiser(file)
        if denoiser.channels != 1:
            raise UserError(f"expected a model for grey images, got {file} for {denoiser.channels} channels")
        about = denoiser.session.get_modelmeta().custom_metadata_map
        content = file.read_bytes()
        url = f"models/{name}.{kind}.onnx.gz"
        (site / url).write_bytes(gzip.compress(content, mtime=0))
        trained = {key: about[key] for key in ("dataset", "noise", "noise_factor") if key in about}
        listed.append(
            {"id": f"{name}-{kind}", "name": name, "format": kind, "url": url, "bytes": len(content), **trained}
        )
    (site / "models.js").write_text(f"export default {json.dumps(listed, indent=2)};\n", encoding="utf-8")


def _files(models):
    """Yield `(name, kind, path)` of the .onnx files that go into the site."""
    for index, (name, run) in enumerate(models):
        floats, int8 = Path(run, "model.onnx"), Path(run, "model.int8.onnx")
        if index == 0 or not int8.is_file():
            yield name, "float", floats
        if int8.is_file():
            yield name, "int8", int8


def _write_digits(path):
    """Write the first of the built-in test digits as one picture of DIGITS × DIGITS tiles."""
    images = render_digits(DIGITS**2, seed=1)[0]
    tiles = images.reshape(DIGITS, DIGITS, *images.shape[1:])
    Image.fromarray(np.ascontiguousarray(tiles.swapaxes(1, 2).reshape(DIGITS * 28, DIGITS * 28))).save(
        path, optimize=True
    )
