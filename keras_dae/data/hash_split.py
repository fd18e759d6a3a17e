"""Which images are held out, decided by a hash of each image's content, so that a dataset may grow."""

import hashlib
from collections.abc import Sequence

import numpy as np

from keras_dae.errors import UserError


def content_values(contents: Sequence[Sequence[str]], salt: str) -> np.ndarray:
    """Return a number for each image, uint64 in the whole range, that is the same for equal images.

    The number follows from the image's content and the salt alone. Of images that are equal in other respects, all get
    the smallest number. So if an image is held out because its number is small, no added image can change that.

    Args:
        contents: for each image what it may have in common with an equal image. The first string decides the number;
            images that share any string are equal.
        salt: other salts give other, independent numbers.
    """
    group_of: dict[str, int] = {}  # of each string; the groups of an image are joined
    joined: list[int] = []  # group -> a group that it was joined to, or itself

    def root(group: int) -> int:
        while joined[group] != group:
            group = joined[group]
        return group

    groups = []
    for strings in contents:
        known = {root(group_of[string]) for string in strings if string in group_of}
        if not known:
            joined.append(len(joined))
        group = min(known, default=len(joined) - 1)
        for other in known:
            joined[other] = group
        group_of.update(dict.fromkeys(strings, group))
        groups.append(group)
    smallest: dict[int, int] = {}
    roots = [root(group) for group in groups]
    for group, strings in zip(roots, contents):
        digest = hashlib.sha256(f"{salt} {strings[0]}".encode()).digest()
        value = int.from_bytes(digest[:8], "big")
        smallest[group] = min(smallest.get(group, value), value)
    return np.array([smallest[group] for group in roots], np.uint64)


def smallest_values(
    values: np.ndarray, fraction: float, min_kept: int = 1, max_held_out: int | None = None
) -> np.ndarray:
    """Return which images are held out: those with small values, but at least one, bool `(n,)`.

    Equal values stand for equal images, which are never divided.

    Args:
        values: uint64 `(n,)`, see `content_values`.
        fraction: expected held-out fraction, in (0, 1).
        min_kept: number of different images that are kept in any case.
        max_held_out: maximum number of images to hold out, unless that many are equal; None for no limit.

    Raises:
        UserError: there are fewer than `min_kept` + 1 different images.

    Example:
        >>> smallest_values(np.array([7, 2**63, 7, 2**62], np.uint64), 0.3).tolist()
        [True, False, True, True]
    """
    different, counts = np.unique(values, return_counts=True)
    if len(different) < min_kept + 1:
        raise UserError(f"expected at least {min_kept + 1} different images, got {len(different)}")
    held_out = int(np.searchsorted(different, np.uint64(int(fraction * 2**64))))
    if max_held_out:
        held_out = min(held_out, int(np.searchsorted(np.cumsum(counts), max_held_out, side="right")))
    return values <= different[min(max(held_out, 1), len(different) - min_kept) - 1]
