"""Move verified artefacts into a run folder, so that a reader finds a run that is whole at every moment.

model.onnx and parity.json are two files, and a reader compares them. So parity.json accepts both the old and the new
artefact while they are exchanged. A process that is killed at any point leaves a run that loads.
"""

import os
from pathlib import Path
from typing import Any

from export.artefacts import ARTEFACT_NAMES, newest_version
from keras_dae._util.atomic import sync
from keras_dae._util.json_files import read_json, write_json
from keras_dae.errors import UserError
from keras_dae.runs.parity_file import sha256_of, verified_checksums

Entries = dict[str, dict[str, Any]]  # format -> entry of parity.json


def publish(artefacts: dict[str, Path], entries: Entries, target: Path) -> dict[str, Path]:
    """Move artefacts into `target`, and add their entries and checksums to its parity.json.

    The caller holds the lock of `target`.

    Args:
        artefacts: format -> path, on the disk of `target`. They have been verified.
        entries: format -> entry, without checksums.
        target: the run folder.

    Returns:
        format -> path in `target`. A SavedModel gets the next version number.

    Raises:
        UserError: an artefact that would stay in `target` has other weights. Nothing was written.
    """
    places = {name: _place(name, target) for name in artefacts}
    files = {name: path for name, path in artefacts.items() if path.is_file()}
    checksums = {name: {"file": places[name].name, "sha256": sha256_of(path)} for name, path in files.items()}
    published = {name: entries[name] | checksums.get(name, {}) for name in artefacts}

    before = read_json(target / "parity.json") if (target / "parity.json").is_file() else {}
    _check_same_weights({name: entry for name, entry in before.items() if name not in published}, published, target)
    replaced = {name: _replaced(places[name], before.get(name)) for name in files}
    during = {name: entry | replaced.get(name, {}) for name, entry in published.items()}
    write_json(target / "parity.json", before | during)
    for name, path in artefacts.items():
        places[name].parent.mkdir(exist_ok=True)
        _sync_all(path)
        os.replace(path, places[name])
        sync(places[name].parent)
    sync(target)
    write_json(target / "parity.json", before | published)
    return places


def _check_same_weights(staying: Entries, published: Entries, target: Path) -> None:
    """Raise `UserError` if an entry that stays has other weights. Entries of earlier releases do not name theirs."""
    weights = {entry.get("weights_sha256") for entry in published.values()} | {None}
    others = [ARTEFACT_NAMES[name] for name, entry in staying.items() if entry.get("weights_sha256") not in weights]
    if published and others:
        raise UserError(
            f"expected exports of the same weights in {target}, got other weights in {', '.join(others)}; remove what "
            "is there, or choose another --output-dir"
        )


def _place(name: str, target: Path) -> Path:
    place = target / ARTEFACT_NAMES[name]
    return place / str(newest_version(place) + 1) if name == "saved_model" else place


def _replaced(place: Path, entry: dict[str, Any] | None) -> dict[str, str]:
    """Return what parity.json says about the file that is replaced, unless that is missing or damaged."""
    if not place.is_file():
        return {}
    found = sha256_of(place)
    is_sound = entry is None or entry.get("file") != place.name or found in verified_checksums(entry)
    return {"replaces_sha256": found} if is_sound else {}


def _sync_all(path: Path) -> None:
    """Write a file, or a folder with all that is in it, to the disk."""
    for inner in path.rglob("*") if path.is_dir() else ():
        sync(inner)
    sync(path)
