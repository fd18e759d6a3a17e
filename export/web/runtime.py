"""The files of onnxruntime-web that the page needs, from a node_modules folder or from npm."""

import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from keras_dae._util.environment import no_telemetry
from keras_dae.errors import UserError, first_line

PACKAGE = "onnxruntime-web"
PACKAGE_VERSION = "1.30.0"  # the version that npm fetches
NPM_SECONDS = 300  # to fetch 40 MB
# File in the package -> file in the site. These are the files that run on the processor. The names end in .js, because
# some hosts do not send .mjs files as JavaScript, and then browsers refuse to run them.
RUNTIME_FILES = {
    "ort.wasm.min.mjs": "ort.wasm.min.js",
    "ort-wasm-simd-threaded.mjs": "ort-wasm-simd-threaded.js",
    "ort-wasm-simd-threaded.wasm": "ort-wasm-simd-threaded.wasm",
}
# The same for the files that run with WebGPU. Browsers load them only where they have WebGPU.
WEBGPU_FILES = {
    "ort.webgpu.min.mjs": "ort.webgpu.min.js",
    "ort-wasm-simd-threaded.asyncify.mjs": "ort-wasm-simd-threaded.asyncify.js",
    "ort-wasm-simd-threaded.asyncify.wasm": "ort-wasm-simd-threaded.asyncify.wasm",
}


def copy_runtime(folder: Path, node_modules: str | os.PathLike | None = None, webgpu: bool = False) -> None:
    """Copy the files of onnxruntime-web into a new folder, with their licence and the licences of their parts.

    Args:
        folder: the folder to make.
        node_modules: folder that holds onnxruntime-web; None for $KERAS_DAE_NODE_MODULES. If that is not set, npm
            fetches the package.
        webgpu: whether the files for WebGPU are copied, too.

    Raises:
        UserError: onnxruntime-web is not in the folder, or npm is missing or fails.
    """
    node_modules = node_modules or os.environ.get("KERAS_DAE_NODE_MODULES")
    with tempfile.TemporaryDirectory() as work:
        package = Path(node_modules, PACKAGE) if node_modules else _fetch(Path(work))
        folder.mkdir()
        for name, new_name in (RUNTIME_FILES | (WEBGPU_FILES if webgpu else {})).items():
            source = package / "dist" / name
            if not source.is_file():
                raise UserError(
                    f"expected {source}, which is missing; install it with npm install {PACKAGE}@{PACKAGE_VERSION}"
                )
            shutil.copyfile(source, folder / new_name)
    # The npm package has no licence text. The Python package is built from the same source and has it.
    with no_telemetry():
        import onnxruntime
    python_package = Path(onnxruntime.__file__).parent
    shutil.copyfile(python_package / "LICENSE", folder / "LICENSE.txt")
    shutil.copyfile(python_package / "ThirdPartyNotices.txt", folder / "ThirdPartyNotices.txt")


def _fetch(work: Path) -> Path:
    """Fetch the package into `work` with npm, without its dependencies, which are not needed. Return its folder."""
    npm = shutil.which("npm")
    if not npm:
        raise UserError(
            f"expected npm, to fetch {PACKAGE}, or --node-modules with a folder that holds it; found neither"
        )
    command = [npm, "pack", "--loglevel=error", f"{PACKAGE}@{PACKAGE_VERSION}"]
    try:
        done = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False, timeout=NPM_SECONDS)
    except subprocess.TimeoutExpired:
        raise UserError(
            f"npm did not fetch {PACKAGE} within {NPM_SECONDS} seconds; give --node-modules with a folder that holds it"
        ) from None
    archives = list(work.glob("*.tgz"))
    if done.returncode or not archives:
        reason = first_line(done.stderr) if done.stderr.strip() else f"exit status {done.returncode}"
        raise UserError(f"npm cannot fetch {PACKAGE}: {reason}; give --node-modules with a folder that holds it")
    with tarfile.open(archives[0]) as archive:
        wanted = {f"package/dist/{name}" for name in RUNTIME_FILES | WEBGPU_FILES}
        archive.extractall(work, [member for member in archive if member.name in wanted], filter="data")
    return work / "package"
