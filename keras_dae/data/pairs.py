"""Real noisy and clean images: the files of two folders, matched by name."""

import os
import sys
from collections import defaultdict
from pathlib import Path

from keras_dae.errors import printable
from keras_dae.images.find import describe_left_out, find_files
from keras_dae.images.read import IMAGE_SUFFIXES

COUNT_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")  # of the split by count, see `TrainConfig.split`

Files = tuple[Path, ...]  # (clean,), or (clean, noisy) for real pairs


def find_images(folder: str | os.PathLike, split: str = "hash") -> list[Path]:
    """Return the sorted paths of all image files below `folder`; print what was left out. See `find_files`.

    Args:
        folder: folder to look in.
        split: see `TrainConfig`. The split by count depends on the list of files, which had hidden ones in it.
    """
    if split == "count":
        return find_files(folder, COUNT_SUFFIXES, hidden=True).files
    files, left_out = find_files(folder, IMAGE_SUFFIXES)
    if left_out:
        print(f"{printable(folder)}: {describe_left_out(left_out)}", file=sys.stderr)
    return files


def matched_pairs(noisy_dir: str, clean_dir: str, split: str = "hash") -> tuple[list[Files], list[str]]:
    """Match the image files of two folders by their paths within the folder.

    Files with the same path are a pair. Of the rest, two files whose paths differ only in the suffix are a pair, unless
    another file has that path, too.

    Args:
        noisy_dir: folder of the noisy images.
        clean_dir: folder of the clean images.
        split: as `find_images` takes it.

    Returns:
        `(pairs, unmatched)`: a sorted list of `(clean, noisy)` files, and a sorted list of `path: reason` of all other
        files.

    Raises:
        UserError: a folder cannot be read.
    """
    noisy = {path.relative_to(noisy_dir): path for path in find_images(noisy_dir, split)}
    clean = {path.relative_to(clean_dir): path for path in find_images(clean_dir, split)}
    pairs: list[Files] = [(clean.pop(path), noisy.pop(path)) for path in noisy.keys() & clean.keys()]
    noisy_by_stem, clean_by_stem = _by_stem(noisy), _by_stem(clean)
    unmatched = []
    for stem in noisy_by_stem.keys() | clean_by_stem.keys():
        noisy_files, clean_files = noisy_by_stem[stem], clean_by_stem[stem]
        if len(noisy_files) == len(clean_files) == 1:
            pairs.append((clean_files[0], noisy_files[0]))
        else:
            unmatched += _reasons(clean_files, noisy_files, noisy_dir) + _reasons(noisy_files, clean_files, clean_dir)
    pairs.sort(key=lambda pair: (pair[0].relative_to(clean_dir).with_suffix(""), pair[0]))
    return pairs, sorted(unmatched)


def _by_stem(paths: dict[Path, Path]) -> defaultdict[Path, list[Path]]:
    """Group files by their path within the folder without the suffix."""
    by_stem = defaultdict(list)
    for path_within, path in paths.items():
        by_stem[path_within.with_suffix("")].append(path)
    return by_stem


def _reasons(files: list[Path], partners: list[Path], partner_dir: str) -> list[str]:
    """Return for each file `path: reason`: why it has no partner among those of its name in the other folder."""
    if partners:
        reason = f"several images have this name, in {partner_dir} or beside this file"
    else:
        reason = f"no image of that name in {partner_dir}"
    return [f"{file}: {reason}" for file in files]
