"""What is said about files that were denoised: notes, from each file to the end of the job."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from keras_dae.denoise.trained_on import TrainedOn
from keras_dae.errors import printable


class Note(NamedTuple):
    """Something that the user should know about a file.

    Attributes:
        kind: `white`, `unlike`, `stack` or `lost`.
        text: the white that was measured; how the images differ from the training images, in one word; nothing; or what
            could not be kept.
    """

    kind: str
    text: str


class Denoised(NamedTuple):
    """A denoised file.

    Attributes:
        content: of the file.
        notes: about it.
    """

    content: bytes
    notes: tuple[Note, ...] = ()


class FileNote(NamedTuple):
    """A note and the file that it is about, by its printable name."""

    file: str
    note: Note


def notes_of(white: int | None, differences: Sequence[str], stacks: int) -> tuple[Note, ...]:
    """Return the notes about a file.

    Args:
        white: that was measured and is not the largest value of the type, or None.
        differences: for each image of the file, how it differs from the training images, see
            `keras_dae.denoise.denoiser.Denoiser.difference`.
        stacks: how many of its arrays are stacks of grey images.

    Example:
        >>> notes_of(4095, ["", "larger"], 0)
        (Note(kind='white', text='4095'), Note(kind='unlike', text='larger'))
    """
    notes = []
    if white is not None:
        notes.append(Note("white", str(white)))
    unlike = [word for word in differences if word]
    if unlike and 2 * len(unlike) >= len(differences):
        notes.append(Note("unlike", unlike[0]))
    return (*notes, *[Note("stack", "")] * stacks)


def summarize(notes: Sequence[FileNote], images: int, trained_on: TrainedOn) -> list[str]:
    """Return the notes of a job in words: one line for each kind, and for lost metadata one line for each file.

    Args:
        notes: of all files.
        images: number of files that were denoised.
        trained_on: what the model was trained on.

    Example:
        >>> notes = [FileNote(name, Note("white", "4095")) for name in ("a.png", "b.png")]
        >>> summarize(notes, 2, TrainedOn.from_metadata({}, 1))
        ['2 files of 16 bits use only a part of their range: white is taken as 4095; --white sets it']
    """
    texts = {
        kind: Counter(note.text for _, note in notes if note.kind == kind) for kind in ("white", "unlike", "stack")
    }
    lines = []
    if whites := texts["white"]:
        verb = (
            "file of 16 bits uses only a part of its"
            if whites.total() == 1
            else "files of 16 bits use only a part of their"
        )
        lines.append(f"{whites.total():,} {verb} range: white is taken as {_counted(whites)}; --white sets it")
    if stacks := texts["stack"].total():
        lines.append(f"arrays of three axes are taken as stacks of grey images (count, height, width): {stacks:,}")
    if unlike := texts["unlike"]:
        lines.append(
            f"{trained_on.describe()}; {unlike.total():,} of {images:,} images are unlike these ({_counted(unlike)}): "
            "expect poor results; train on images like yours: python -m keras_dae.train --dataset FOLDER"
        )
    lost: dict[str, list[str]] = {}
    for file, note in notes:
        if note.kind == "lost":
            lost.setdefault(file, []).append(printable(note.text))
    return lines + [f"{file}: lost: {'; '.join(texts)}" for file, texts in sorted(lost.items())]


def _counted(texts: Counter[str]) -> str:
    """Return different texts with how often each occurs; the text alone if there is only one.

    Example:
        >>> _counted(Counter(["4095", "4095", "1023"]))
        '4095 for 2, 1023 for 1'
    """
    if len(texts) == 1:
        return next(iter(texts))
    ordered = sorted(texts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{text} for {count:,}" for text, count in ordered)
