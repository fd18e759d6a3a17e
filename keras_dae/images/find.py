"""Find the image files of a folder: what systems put there is skipped, and what else is left out is counted."""

import os
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from keras_dae.errors import UserError, printable

# Files and folders that file managers, archivers and storage systems add, in lower case. They are skipped without a
# word, like everything hidden: names that start with a dot, such as .ipynb_checkpoints, .Trash-1000 and ._photo.jpg.
SYSTEM_NAMES = frozenset(
    {
        *("__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"),
        *("$recycle.bin", "recycler", "recycled", "system volume information", "found.000"),
        *("lost+found", "@eadir", "@tmp", "@recycle", "@recently-snapshot", "#recycle", "#snapshot", "#recycler"),
    }
)
MAX_SUFFIXES = 8  # named in the line about what was left out


class Found(NamedTuple):
    """The files of a folder.

    Attributes:
        files: sorted paths of the files that were looked for.
        left_out: how many files have another suffix, by suffix; and how many things are not regular files, by kind.
    """

    files: list[Path]
    left_out: Counter[str]


def find_files(folder: str | os.PathLike, suffixes: tuple[str, ...], hidden: bool = False) -> Found:
    """Return all regular files below `folder` that end in one of `suffixes`, in upper or lower case.

    Hidden files and folders and SYSTEM_NAMES are skipped, but `folder` itself may be one. Links to folders are not
    followed. A subfolder that cannot be read, or a link to nothing, is listed like a file. So it is reported like a
    file that cannot be read.

    Args:
        folder: folder to look in.
        suffixes: with their dots, in lower case.
        hidden: whether to take hidden files and folders and SYSTEM_NAMES, too.

    Raises:
        UserError: `folder` is not a folder, or cannot be read.

    Example::

        find_files("scans", (".png", ".jpg")).left_out  # Counter({'.heic': 12})
    """
    if not os.path.isdir(folder):
        state = "a file" if os.path.isfile(folder) else "not there"
        raise UserError(f"expected a folder of images, got {folder}, which is {state}")
    files, left_out, folders = [], Counter[str](), [Path(folder)]
    while folders:
        current = folders.pop()
        try:
            with os.scandir(current) as entries:
                visible = [entry for entry in entries if hidden or not is_hidden(entry.name)]
        except OSError as error:
            if current == Path(folder):
                raise UserError(f"cannot read the folder {folder}: {error.strerror}") from None
            files.append(current)
            continue
        for entry in visible:
            if entry.is_dir(follow_symlinks=False):
                folders.append(current / entry.name)
            elif kind := _other_kind(entry):
                left_out[kind] += 1
            elif entry.name.lower().endswith(suffixes):
                files.append(current / entry.name)
            else:
                left_out[suffix_of(entry.name)] += 1
    return Found(sorted(files), left_out)


def is_hidden(name: str) -> bool:
    """Return whether a file or folder of this name is hidden, or one of SYSTEM_NAMES.

    Example:
        >>> is_hidden("._photo.jpg"), is_hidden("Thumbs.db"), is_hidden("photo.jpg")
        (True, True, False)
    """
    return name.startswith(".") or name.lower() in SYSTEM_NAMES


def suffix_of(name: str) -> str:
    """Return the suffix of a file name in lower case, or the words `without suffix`."""
    return os.path.splitext(name)[1].lower() or "without suffix"


def describe_left_out(left_out: Counter[str]) -> str:
    """Return in one line what was left out.

    Example:
        >>> describe_left_out(Counter({".heic": 3, ".gif": 12}))
        'left out: 12 .gif, 3 .heic'
    """
    common = left_out.most_common(MAX_SUFFIXES)
    others = left_out.total() - sum(count for _, count in common)
    counts = [f"{count:,} {printable(kind)}" for kind, count in common] + ([f"{others:,} others"] if others else [])
    return f"left out: {', '.join(counts)}"


def _other_kind(entry: os.DirEntry) -> str | None:
    """Return what an entry is that is neither a folder nor a file; None for a file, or a link that leads nowhere."""
    try:
        if entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path)):
            return None
        return "folder link(s)" if entry.is_dir() else "pipe(s) or device(s)"
    except OSError:  # a link in a circle; reading it will report that
        return None
