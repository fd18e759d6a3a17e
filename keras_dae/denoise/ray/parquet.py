"""Parquet files with a column of image files' bytes: denoised, all else as it is."""

import pyarrow as pa
import pyarrow.parquet as pq

from keras_dae.denoise.batching import denoise_contents
from keras_dae.errors import UserError, first_line

SUFFIX = ".parquet"
FAILED = "keras_dae.failed"  # in the footer of a shard that could not be denoised whole: how many images
ROWS, BYTES = 1024, 2**26  # decompressed at a time, whichever is less
ABSENT = ValueError("expected the bytes of an image, got null")


def is_shard(path):
    """Return whether a path is that of a Parquet file, by its ending."""
    return path.suffix.lower() == SUFFIX


def image_column(schema, name=None):
    """Return the name of the column with the images: bytes, or structs with `bytes`, as Hugging Face writes them.

    Args:
        schema: `pyarrow.Schema`.
        name: the column, where the user named one.

    Raises:
        UserError: there is none of that name and type, or none, or more than one and none is called `image`.
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


def _is_images(kind):
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and _is_bytes(kind.field("bytes").type)
    return _is_bytes(kind)


def _is_bytes(kind):
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)


def denoise_shard(denoiser, source, target, column=None):
    """Denoise a Parquet file: same schema, same rows in the same order and row groups, same codecs.

    An image that cannot be denoised becomes null, so that no noisy one passes for denoised; nulls stay null. (So the
    images of the new file may be null, whatever the schema said.)

    Args:
        denoiser: `keras_dae.denoise.denoiser.Denoiser`.
        source: readable file, with random access.
        target: binary stream to write to.
        column: see `image_column`.

    Returns:
        `(denoised, failed)`: the number of images, and a list of `(row, error)`.

    Raises:
        UserError: no such column. pyarrow.ArrowException, OSError: no sound Parquet file.
    """
    denoised, failed = 0, []
    with pq.ParquetFile(source, pre_buffer=True) as file:
        schema = file.schema_arrow
        position = schema.get_field_index(image_column(schema, column))
        schema = schema.set(position, schema.field(position).with_nullable(True))
        with pq.ParquetWriter(target, schema, compression=_codecs(file.metadata)) as writer:
            first_row = 0
            for group in range(file.num_row_groups):
                batches, size = [], file.metadata.row_group(group)
                rows = max(1, min(ROWS, BYTES * size.num_rows // max(1, size.total_byte_size)))
                for batch in file.iter_batches(rows, row_groups=[group], use_threads=False):
                    images, given, errors = _denoise_images(denoiser, batch.column(position))
                    batches.append(batch.set_column(position, schema.field(position), images))
                    denoised += given - len(errors)
                    failed += [(first_row + row, error) for row, error in errors]
                    first_row += len(batch)
                table = pa.Table.from_batches(batches, schema)
                writer.write_table(table, row_group_size=max(1, len(table)))
            if failed:
                writer.add_key_value_metadata({FAILED: str(len(failed))})
    return denoised, failed


def _codecs(metadata):
    """Return column path -> codec of a Parquet file's first row group, as `ParquetWriter` takes it."""
    if not metadata.num_row_groups:
        return "snappy"
    group = metadata.row_group(0)
    columns = map(group.column, range(metadata.num_columns))
    return {column.path_in_schema: column.compression.replace("UNCOMPRESSED", "NONE") for column in columns}


def _denoise_images(denoiser, images):
    """Return an array like `images`, denoised, the number of images in it, and a list of `(index, error)`."""
    kind = images.type
    if pa.types.is_struct(kind):
        fields, place = images.flatten(), kind.get_field_index("bytes")
        contents = fields[place]
    else:
        contents = images
    given = [index for index, is_there in enumerate(images.is_valid().to_pylist()) if is_there]
    contents = contents.to_pylist()
    noisy = (ABSENT if contents[index] is None else contents[index] for index in given)
    results, errors = [None] * len(contents), []
    for index, result in zip(given, denoise_contents(denoiser, noisy)):
        if isinstance(result, Exception):
            errors.append((index, first_line(result)))
        else:
            results[index] = result
    if pa.types.is_struct(kind):
        absent = pa.array([result is None for result in results])
        fields[place] = pa.array([result or b"" for result in results], kind.field(place).type)  # it may be not null
        return pa.StructArray.from_arrays(fields, fields=list(kind), mask=absent), len(given), errors
    return pa.array(results, kind), len(given), errors


def has_failed(filesystem, path):
    """Return whether images of this denoised Parquet file could not be denoised, or it cannot be read."""
    try:
        with filesystem.open_input_file(path) as file:
            return FAILED.encode() in (pq.read_metadata(file).metadata or {})
    except (pa.ArrowException, OSError):
        return True
