"""The workers. Each denoises one chunk at a time, with one thread of onnxruntime."""

import os
import warnings
from collections.abc import Sequence

import pyarrow as pa
import ray
from pyarrow.fs import FileSystem

from keras_dae.denoise.batching import Failed, attempt
from keras_dae.denoise.chunk import denoise_chunk
from keras_dae.denoise.denoiser import open_denoiser
from keras_dae.denoise.ray.filesystem import FilesystemAccess, atomic_stream
from keras_dae.denoise.ray.messages import ChunkResult, ImageFailure, chunk_from_table, image_failure, result_to_table
from keras_dae.denoise.ray.parquet import denoise_parquet, is_parquet
from keras_dae.denoise.work import Work


class Worker:
    """A function of chunks for `Dataset.map_batches`. The model is loaded once."""

    def __init__(self, model: ray.ObjectRef, source: FileSystem, target: FileSystem, column: str | None):
        """Load the model.

        Args:
            model: reference to the content of the .onnx file.
            source, target: filesystems of the inputs and of the outputs.
            column: of the images in Parquet files, see `keras_dae.denoise.ray.parquet.image_column`.
        """
        warnings.filterwarnings("ignore", module=r"PIL\.")  # as in the driver
        self.denoiser = open_denoiser(ray.get(model), "the model", threads=1)
        self.files, self.column = FilesystemAccess(source, target), column

    def __call__(self, table: pa.Table) -> pa.Table:
        """Denoise a chunk; return its `ChunkResult` as a table."""
        index, works = chunk_from_table(table)
        denoised, failures = self._denoise_images([work for work in works if not is_parquet(work.source)])
        for work in works:
            if is_parquet(work.source):
                denoised_in_file, failures_in_file = self._denoise_parquet(work)
                denoised, failures = denoised + denoised_in_file, failures + failures_in_file
        return result_to_table(ChunkResult(index, denoised, failures))

    def _denoise_images(self, works: Sequence[Work]) -> tuple[int, list[ImageFailure]]:
        failures = [image_failure(*failure) for failure in denoise_chunk(self.denoiser, works, self.files)]
        return len(works) - len(failures), failures

    def _denoise_parquet(self, work: Work) -> tuple[int, list[ImageFailure]]:
        result = attempt(self._write_parquet, work)
        if isinstance(result, Failed):
            return 0, [image_failure(work.source, result.error)]
        return result.denoised, [image_failure(work.source, error, row) for row, error in result.failures]

    def _write_parquet(self, work: Work):
        with (
            self.files.source.open_input_file(os.fsencode(work.source)) as source,
            atomic_stream(self.files.target, work.target) as target,
        ):
            return denoise_parquet(self.denoiser, source, target, self.column)
