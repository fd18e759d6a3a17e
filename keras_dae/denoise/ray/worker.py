"""What Ray's actors do: each denoises the parts that it is given, on one thread of onnxruntime."""

import functools
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import ray

from keras_dae._util.threads import map_ahead
from keras_dae.denoise.batching import attempt
from keras_dae.denoise.denoiser import open_denoiser
from keras_dae.denoise.files import Work, denoise_part
from keras_dae.denoise.ray import filesystem as storage
from keras_dae.denoise.ray import parquet as shards
from keras_dae.errors import first_line, printable

RESULT = pa.schema(
    [
        ("part", pa.int64()),
        ("denoised", pa.int64()),
        ("failed", pa.list_(pa.struct([("file", pa.string()), ("row", pa.int64()), ("error", pa.string())]))),
    ]
)


def failure(source, error, row=None):
    """Return one of RESULT's `failed`, in Unicode that Arrow takes."""
    return {"file": printable(source), "row": row, "error": printable(error)}


class Worker:
    """A function of parts, for `Dataset.map_batches`, that loads the model once."""

    def __init__(self, model, source, target, column):
        """Take a reference to the model's bytes, the filesystems of inputs and outputs, and the images' column."""
        warnings.filterwarnings("ignore", module=r"PIL\.")  # as in the command's own process
        self.denoiser = open_denoiser(ray.get(model), "the model", threads=1)
        self.source, self.target, self.column = source, target, column

    def __call__(self, part):
        """Denoise a table of files, `part`, `source`, `target`; return a row of RESULT."""
        columns = (part[name].to_pylist() for name in ("source", "target"))
        works = [Work(*(Path(os.fsdecode(path)) for path in paths)) for paths in zip(*columns)]
        images = [work for work in works if not shards.is_shard(work.source)]
        denoised, failed = self._images(images)
        for work in works:
            if shards.is_shard(work.source):
                more, others = self._shard(work)
                denoised, failed = denoised + more, failed + others
        result = {"part": part["part"][0].as_py(), "denoised": denoised, "failed": failed}
        return pa.Table.from_pylist([result], RESULT)

    def _images(self, works):
        with ThreadPoolExecutor(storage.REQUESTS) as pool:
            local = storage.is_local(self.source) and storage.is_local(self.target)
            each = map if local else functools.partial(map_ahead, pool, ahead=storage.REQUESTS)
            errors = denoise_part(self.denoiser, works, self._read, self._write, each)
        failed = [failure(source, error) for source, error in errors]
        return len(works) - len(failed), failed

    def _shard(self, work):
        result = attempt(self._denoise_shard, work)
        if isinstance(result, Exception):
            return 0, [failure(work.source, first_line(result))]
        denoised, errors = result
        return denoised, [failure(work.source, error, row) for row, error in errors]

    def _denoise_shard(self, work):
        with (
            self.source.open_input_file(os.fsencode(work.source)) as source,
            storage.atomic_stream(self.target, work.target) as target,
        ):
            return shards.denoise_shard(self.denoiser, source, target, self.column)

    def _read(self, path):
        with self.source.open_input_stream(os.fsencode(path)) as file:
            return file.read()

    def _write(self, path, content):
        with storage.atomic_stream(self.target, path) as file:
            file.write(content)
