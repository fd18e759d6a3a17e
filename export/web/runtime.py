"""The files of onnxruntime-web that the page needs, from a node_modules folder or from npm."""

import importlib.util
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from keras_dae.errors import UserError, first_line

PACKAGE = "onnxruntime-web"
VERSION = "1.30.0"  # what npm is asked for
# Those for processors alone. Not every host knows that .mjs is JavaScript, and browsers run nothing else.
FILES = {
    "ort.wasm.min.mjs": "ort.wasm.min.js",
    "ort-wasm-simd-threaded.mjs": "ort-wasm-simd-threaded.js",
    "ort-wasm-simd-threaded.wasm": "ort-wasm-simd-threaded.wasm",
}


def copy_runtime(folder, node_modules=None):
    """Copy FILES under their new names, with their licence and those of what is in them, into `folder`, which is made.

    Args:
        folder: a Path.
        node_modules: folder that holds onnxruntime-web; None for $KERAS_DAE_NODE_MODULES, or, if that is not set,
            what npm fetches.

    Raises:
        UserError: onnxruntime-web is not there, or npm is not, or fails.
    """
    node_modules = node_modules or os.environ.get("KERAS_DAE_NODE_MODULES")
    with tempfile.TemporaryDirectory() as work:
        package = Path(node_modules, PACKAGE) if node_modules else _fetch(Path(work))
        folder.mkdir()
        for name, new_name in FILES.items():
            source = package / "dist" / name
            if not source.is_file():
                raise UserError(f"expected {PACKAGE} with {source}; npm install {PACKAGE}@{VERSION} where it is to be")
            shutil.copyfile(source, folder / new_name)
    # The npm package has no licence's text; the Python package, made from the same source, does.
    python_package = Path(importlib.util.find_spec("onnxruntime").origin).parent
    shutil.copyfile(python_package / "LICENSE", folder / "LICENSE.txt")
    shutil.copyfile(python_package / "ThirdPartyNotices.txt", folder / "ThirdPartyNotices.txt")


def _fetch(work):
    """Return the folder of the package, fetched by npm into `work`; its dependencies are not needed."""
    npm = shutil.which("npm")
    if not npm:
        raise UserError(
            f"expected npm, to fetch {PACKAGE}, or --node-modules with a folder that holds it; found neither"
        )
    command = [npm, "pack", "--loglevel=error", f"{PACKAGE}@{VERSION}"]
    done = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)
    archives = list(work.glob("*.tgz"))
    if done.returncode or not archives:
        reason = first_line(done.stderr) if done.stderr.strip() else f"exit status {done.returncode}"
        raise UserError(f"npm cannot fetch {PACKAGE}: {reason}; give --node-modules with a folder that holds it")
    with tarfile.open(archives[0]) as archive:
        wanted = {f"package/dist/{name}" for name in FILES}
        archive.extractall(work, [member for member in archive if member.name in wanted], filter="data")
    return work / "package"
