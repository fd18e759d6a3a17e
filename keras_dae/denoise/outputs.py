"""Which outputs of an earlier job are finished, so that a job does only what is missing."""

import os
import stat
import sys
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import NamedTuple

from keras_dae.denoise.work import Work


class FileState(NamedTuple):
    """What is known about a file without reading it.

    Attributes:
        size: number of bytes.
        modified: time of the last change in nanoseconds; None if the store does not say.
        identity: equal for two paths of one file on this machine, which a link makes; None in an object store.
    """

    size: int
    modified: int | None = None
    identity: tuple[int, int] | None = None


def local_states(paths: Sequence[PurePath]) -> dict[PurePath, FileState]:
    """Return `{path: state}` of the paths at which there is a file, or a link to one."""
    states = {}
    for path in paths:
        try:
            status = os.stat(path)
        except OSError:  # nothing is there, or nothing that can be read
            continue
        if stat.S_ISREG(status.st_mode):
            states[path] = FileState(status.st_size, status.st_mtime_ns, (status.st_dev, status.st_ino))
    return states


def without_finished(
    works: Sequence[Work], sources: Mapping[PurePath, FileState], targets: Mapping[PurePath, FileState]
) -> list[Work]:
    """Return the files whose outputs are not finished, in the same order.

    An output is finished if it is a file that is not empty, is not an input (a link may make it one), and is not older
    than its input. If outputs are older, a line on stderr says how many.

    Args:
        works: the files.
        sources: state of each input, as far as it is known.
        targets: state of each output that exists.
    """
    inputs = {state.identity for state in sources.values()} - {None}
    missing, outdated = [], 0
    for work in works:
        source, target = sources.get(work.source), targets.get(work.target)
        if not target or not target.size or target.identity in inputs:
            missing.append(work)
        elif source and (source.modified or 0) > (target.modified or sys.maxsize):
            missing.append(work)
            outdated += 1
    if outdated:
        print(f"outputs that are older than their inputs, and are made again: {outdated:,}", file=sys.stderr)
    return missing
