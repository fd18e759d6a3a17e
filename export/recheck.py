"""Verify the exports in a run folder once more."""

import os
from collections.abc import Iterable
from pathlib import Path

from export.artefacts import ARTEFACT_NAMES, EXPORT_FORMATS, check_formats, check_installed, newest_version
from export.parity.check import INT8_SLACK, INT8_TOLERANCE, verify
from keras_dae._util.json_files import expecting, read_json
from keras_dae.errors import UserError


def check_run(run: str | os.PathLike, formats: Iterable[str] | None = None) -> tuple[dict[str, dict], dict[str, Path]]:
    """Verify the artefacts in a run folder against its model.keras. Nothing is written.

    Args:
        run: run folder with model.keras and exports. Of SavedModel, the newest version is verified.
        formats: some of `export.artefacts.EXPORT_FORMATS`; None for all that are in the folder.

    Returns:
        What `export.verify` returned, and the paths of the artefacts: format -> entry, format -> path.

    Raises:
        UserError: the run, an artefact that was asked for, or a package that one needs is missing; a format is
            unknown; or the folder has no exports at all.
        ParityError: an artefact does not compute what model.keras computes.
    """
    from keras_dae.networks.keras_file import load_model

    formats = tuple(formats or ())
    check_formats(formats)
    run = Path(run)
    paths = {name: run / ARTEFACT_NAMES[name] for name in formats or EXPORT_FORMATS}
    if "saved_model" in paths:
        paths["saved_model"] /= str(newest_version(paths["saved_model"]))
    missing = [name for name, path in paths.items() if not path.exists()]
    if missing and (formats or len(missing) == len(paths)):
        names = ", no ".join(ARTEFACT_NAMES[name] for name in missing)
        raise UserError(f"expected exports in {run}, found no {names}; python -m export {run} makes them")
    paths = {name: path for name, path in paths.items() if name not in missing}
    check_installed(paths)
    return verify(load_model(run / "model.keras"), paths, int8_tolerance(run)), paths


def int8_tolerance(run: Path) -> float:
    """Return the root mean square error that the 8-bit model of a run may have, on the [0, 1] scale.

    It is the error that parity.json states, plus INT8_SLACK. If parity.json states none, it is INT8_TOLERANCE.

    Raises:
        UserError: parity.json is damaged.
    """
    if not (run / "parity.json").is_file():
        return INT8_TOLERANCE
    parity = read_json(run / "parity.json")
    with expecting(run / "parity.json"):
        before = parity.get("int8", {}).get("max_rms_error")
        return INT8_TOLERANCE if before is None else before + INT8_SLACK
