"""What the driver and the workers send each other through Ray Data: chunks and their results, as Arrow tables."""

import os
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import pyarrow as pa

from keras_dae.denoise.notes import FileNote, Note
from keras_dae.denoise.work import Work
from keras_dae.errors import printable

RESULT_SCHEMA = pa.schema(
    [
        ("chunk", pa.int64()),
        ("refusal", pa.string()),
        ("denoised", pa.int64()),
        ("notes", pa.list_(pa.struct([("file", pa.string()), ("kind", pa.string()), ("text", pa.string())]))),
        ("failures", pa.list_(pa.struct([("file", pa.string()), ("row", pa.int64()), ("error", pa.string())]))),
    ]
)


class ImageFailure(NamedTuple):
    """A file, or an image in a Parquet file, that could not be denoised. Arrow takes only valid Unicode.

    Attributes:
        file: printable path.
        row: number of the row in a Parquet file, from 0; None if the whole file failed.
        error: one line that says why.
    """

    file: str
    row: int | None
    error: str

    @property
    def name(self) -> str:
        """The file, and the row if there is one."""
        return self.file if self.row is None else f"{self.file}, row {self.row}"


class ChunkResult(NamedTuple):
    """What became of a chunk.

    Attributes:
        chunk: its index.
        denoised: number of images.
        failures: what could not be denoised.
        notes: about the others.
        refusal: why the worker cannot denoise anything, in one line; None if it can.
    """

    chunk: int
    denoised: int
    failures: list[ImageFailure]
    notes: list[FileNote]
    refusal: str | None = None


def image_failure(source: PurePath, error: str, row: int | None = None) -> ImageFailure:
    """Return an `ImageFailure` whose texts are printable."""
    return ImageFailure(printable(source), row, printable(error))


def chunk_to_table(index: int, chunk: Sequence[Work]) -> pa.Table:
    """Return a chunk as a table with a row for each file."""
    return pa.table(
        {
            "chunk": [index] * len(chunk),
            "source": [os.fsencode(work.source) for work in chunk],
            "target": [os.fsencode(work.target) for work in chunk],
        }
    )


def chunk_from_table(table: pa.Table) -> tuple[int, list[Work]]:
    """Return the index of a chunk, and its files."""
    sources, targets = ([Path(os.fsdecode(path)) for path in table[name].to_pylist()] for name in ("source", "target"))
    return table["chunk"][0].as_py(), list(map(Work, sources, targets))


def result_to_table(result: ChunkResult) -> pa.Table:
    """Return a result as a table with one row, of RESULT_SCHEMA."""
    failures = [failure._asdict() for failure in result.failures]
    notes = [{"file": file, **note._asdict()} for file, note in result.notes]
    return pa.Table.from_pylist([{**result._asdict(), "failures": failures, "notes": notes}], RESULT_SCHEMA)


def result_from_row(row: dict[str, Any]) -> ChunkResult:
    """Return the result in a row of RESULT_SCHEMA."""
    failures = [ImageFailure(**failure) for failure in row["failures"]]
    notes = [FileNote(note["file"], Note(note["kind"], note["text"])) for note in row["notes"]]
    return ChunkResult(row["chunk"], row["denoised"], failures, notes, row["refusal"])
