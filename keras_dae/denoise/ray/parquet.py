"""Parquet files with a column of images. The images are denoised, and all else is copied."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import PurePath
from typing import IO, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.fs import FileSystem

from keras_dae.denoise.batching import Failed, denoise_contents
from keras_dae.denoise.denoiser import Denoiser
from keras_dae.denoise.notes import Note
from keras_dae.denoise.white import White
from keras_dae.errors import UserError

SUFFIX = ".parquet"
FAILED_KEY = "keras_dae.failed"  # metadata of a denoised Parquet file: how many of its images failed
MAX_ROWS, MAX_BYTES = 1024, 2**26  # of what is decompressed at a time
NO_BYTES = Failed("expected the bytes of an image, got null")


class ParquetResult(NamedTuple):
    """What became of a Parquet file.

    Attributes:
        denoised: number of images.
        failures: `(row, error)` for each image that could not be denoised.
        notes: `(row, note)` about the others.
    """

    denoised: int
    failures: list[tuple[int, str]]
    notes: list[tuple[int, Note]]


def is_parquet(path: PurePath) -> bool:
    """Return whether the name of a file ends in .parquet."""
    return path.suffix.lower() == SUFFIX


def image_column(schema: pa.Schema, name: str | None = None) -> str:
    """Return the name of the column with the images: bytes, or structs with `bytes`, as Hugging Face writes them.

    Args:
        schema: of the file.
        name: the column that the user named. None finds the only column of such a type, or the one called `image`.

    Raises:
        UserError: there is no such column.
    """
    found = [field.name for field in schema if _is_images(field.type)]
    if name is None:
        name = found[0] if len(found) == 1 else "image"
    if name in found:
        return name
    if found:
        raise UserError(f"expected --column to name the images, one of {', '.join(found)}; got {name}")
    columns = ", ".join(f"{field.name} ({field.type})" for field in schema)
    raise UserError(f"expected a column of images (binary, or a struct with binary `bytes`), got {columns or 'none'}")


def _is_images(type_: pa.DataType) -> bool:
    if isinstance(type_, pa.StructType):
        return type_.get_field_index("bytes") >= 0 and _is_bytes(type_.field("bytes").type)
    return _is_bytes(type_)


def _is_bytes(type_: pa.DataType) -> bool:
    return pa.types.is_binary(type_) or pa.types.is_large_binary(type_) or pa.types.is_binary_view(type_)


def denoise_parquet(
    denoiser: Denoiser,
    source: pa.NativeFile | IO[bytes],
    target: IO[bytes],
    column: str | None = None,
    white: White = "auto",
) -> ParquetResult:
    """Denoise a Parquet file. The schema, the rows, their order, the row groups and the codecs stay the same.

    An image that cannot be denoised becomes null, so that no noisy image looks like a denoised one. Nulls stay null.
    Because of that, the image column of the new file is nullable.

    Args:
        denoiser: runs the network.
        source: file to read, with random access.
        target: stream to write to.
        column: see `image_column`.
        white: see `keras_dae.denoise.files.denoise_files`. It is measured for each image alone.

    Raises:
        UserError: there is no such column.
        pyarrow.ArrowException, OSError: the file is damaged, or cannot be read or written.
    """
    denoised, failures, notes = 0, [], []
    with pq.ParquetFile(source, pre_buffer=True) as file:
        schema = file.schema_arrow
        position = schema.get_field_index(image_column(schema, column))
        schema = schema.set(position, schema.field(position).with_nullable(True))
        with pq.ParquetWriter(target, schema, compression=_codecs(file.metadata)) as writer:
            first_row = 0
            for group in range(file.num_row_groups):
                batches = []
                for batch in _batches(file, group):
                    images, errors, notes_in_batch = _denoise_column(denoiser, batch.column(position), white)
                    batches.append(batch.set_column(position, schema.field(position), images))
                    denoised += len(images) - images.null_count
                    failures += [(first_row + index, error) for index, error in errors]
                    notes += [(first_row + index, note) for index, note in notes_in_batch]
                    first_row += len(batch)
                table = pa.Table.from_batches(batches, schema)
                writer.write_table(table, row_group_size=max(1, len(table)))
            if failures:
                writer.add_key_value_metadata({FAILED_KEY: str(len(failures))})
    return ParquetResult(denoised, failures, notes)


def _batches(file: pq.ParquetFile, group: int) -> Iterator[pa.RecordBatch]:
    """Return an iterator of a row group's rows, as many at a time as MAX_ROWS and MAX_BYTES allow."""
    size = file.metadata.row_group(group)
    rows = max(1, min(MAX_ROWS, MAX_BYTES * size.num_rows // max(1, size.total_byte_size)))
    return file.iter_batches(rows, row_groups=[group], use_threads=False)


def _codecs(metadata: pq.FileMetaData) -> Any:
    """Return `{column path: codec}` of a Parquet file's first row group, as `ParquetWriter` takes it."""
    if not metadata.num_row_groups:
        return "snappy"
    group = metadata.row_group(0)
    columns = map(group.column, range(metadata.num_columns))
    return {column.path_in_schema: column.compression.replace("UNCOMPRESSED", "NONE") for column in columns}


def _denoise_column(
    denoiser: Denoiser, images: pa.Array, white: White
) -> tuple[pa.Array, list[tuple[int, str]], list[tuple[int, Note]]]:
    """Return the denoised images as an array of the same type, `(index, error)` for each that failed, and notes."""
    if not isinstance(images, pa.StructArray):
        results, errors, notes = _denoise_values(denoiser, images, images, white)
        return pa.array(results, images.type), errors, notes
    fields, position = images.flatten(), images.type.get_field_index("bytes")
    results, errors, notes = _denoise_values(denoiser, images, fields[position], white)
    is_null = pa.array([result is None for result in results])
    # The field `bytes` may be declared as not nullable. So the bytes of a null image are empty instead of null.
    fields[position] = pa.array([result or b"" for result in results], fields[position].type)
    return pa.StructArray.from_arrays(fields, fields=list(images.type), mask=is_null), errors, notes


def _denoise_values(
    denoiser: Denoiser, images: pa.Array, contents: pa.Array, white: White
) -> tuple[list[bytes | None], list[tuple[int, str]], list[tuple[int, Note]]]:
    """Return the content of each denoised image, None where there is none; what failed, `(index, error)`; and notes.

    Args:
        denoiser: runs the network.
        images: only its nulls matter: there is no image in these places.
        contents: bytes of the images.
        white: see `denoise_parquet`.
    """
    given = [index for index, is_valid in enumerate(images.is_valid().to_pylist()) if is_valid]
    values = contents.to_pylist()
    noisy = (NO_BYTES if values[index] is None else values[index] for index in given)
    results: list[bytes | None] = [None] * len(values)
    errors, notes = [], []
    for index, result in zip(given, denoise_contents(denoiser, noisy, white)):
        if isinstance(result, Failed):
            errors.append((index, result.error))
        else:
            results[index] = result.content
            notes += [(index, note) for note in result.notes]
    return results, errors, notes


def has_failed_images(filesystem: FileSystem, path: PurePath) -> bool:
    """Return whether some images of a denoised Parquet file could not be denoised, or the file cannot be read."""
    with contextlib.suppress(pa.ArrowException, OSError), filesystem.open_input_file(os.fsencode(path)) as file:
        return FAILED_KEY.encode() in (pq.read_metadata(file).metadata or {})
    return True
