"""The workers. Each denoises one chunk at a time, with one thread of onnxruntime."""

import os
import socket
import warnings
from collections.abc import Sequence

import pyarrow as pa
import ray
from pyarrow.fs import FileSystem

from keras_dae.denoise.batching import Failed, attempt
from keras_dae.denoise.chunk import denoise_chunk
from keras_dae.denoise.denoiser import open_denoiser
from keras_dae.denoise.notes import FileNote
from keras_dae.denoise.ray.filesystem import FilesystemAccess, atomic_stream
from keras_dae.denoise.ray.messages import ChunkResult, chunk_from_table, image_failure, result_to_table
from keras_dae.denoise.ray.parquet import denoise_parquet, is_parquet
from keras_dae.denoise.white import White
from keras_dae.denoise.work import Work
from keras_dae.errors import UserError, printable


class Worker:
    """A function of chunks for `Dataset.map_batches`. The model is loaded once."""

    def __init__(self, model: ray.ObjectRef, source: FileSystem, target: FileSystem, column: str | None, white: White):
        """Load the model.

        Args:
            model: reference to the content of the .onnx file.
            source, target: filesystems of the inputs and of the outputs.
            column: of the images in Parquet files, see `keras_dae.denoise.ray.parquet.image_column`.
            white: see `keras_dae.denoise.files.denoise_files`.
        """
        warnings.filterwarnings("ignore", module=r"PIL\.")  # as in the driver
        self.refusal = None
        try:
            self.denoiser = open_denoiser(ray.get(model), "the model", threads=1)
        except UserError as error:  # Ray would start this worker again and again
            self.refusal = f"a worker on {socket.gethostname()} cannot work: {error}"
        self.files, self.column, self.white = FilesystemAccess(source, target), column, white

    def __call__(self, table: pa.Table) -> pa.Table:
        """Denoise a chunk; return its `ChunkResult` as a table."""
        index, works = chunk_from_table(table)
        if self.refusal:
            return result_to_table(ChunkResult(index, 0, [], [], printable(self.refusal)))
        results = [self._denoise_images(index, [work for work in works if not is_parquet(work.source)])]
        results += [self._denoise_parquet(index, work) for work in works if is_parquet(work.source)]
        failures = [failure for result in results for failure in result.failures]
        notes = [note for result in results for note in result.notes]
        return result_to_table(ChunkResult(index, sum(result.denoised for result in results), failures, notes))

    def _denoise_images(self, index: int, works: Sequence[Work]) -> ChunkResult:
        outcome = denoise_chunk(self.denoiser, works, self.files, self.white)
        failures = [image_failure(*failure) for failure in outcome.failures]
        return ChunkResult(index, len(works) - len(failures), failures, outcome.notes)

    def _denoise_parquet(self, index: int, work: Work) -> ChunkResult:
        result = attempt(self._write_parquet, work)
        if isinstance(result, Failed):
            return ChunkResult(index, 0, [image_failure(work.source, result.error)], [])
        failures = [image_failure(work.source, error, row) for row, error in result.failures]
        notes = [FileNote(f"{printable(work.source)}, row {row}", note) for row, note in result.notes]
        return ChunkResult(index, result.denoised, failures, notes)

    def _write_parquet(self, work: Work):
        with (
            self.files.source.open_input_file(os.fsencode(work.source)) as source,
            atomic_stream(self.files.target, work.target) as target,
        ):
            return denoise_parquet(self.denoiser, source, target, self.column, self.white)
