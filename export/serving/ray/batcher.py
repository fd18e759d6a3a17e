"""Requests of one replica share a core and a memory: batches of waiting requests, and a budget for what it holds.

`ray.serve.batch` forms a batch as soon as requests arrive, also while another batch is computed. So under load its
batches would be small.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

from export.serving.ray.servable import Images, Item, Refused


class Budget:
    """How much all requests of a replica may hold together: bytes or pixels. It belongs to one event loop."""

    def __init__(self, limit: int, unit: str):
        self.limit, self.unit, self.used = limit, unit, 0

    @contextlib.contextmanager
    def reserved(self, amount: int) -> Iterator[None]:
        """Hold an amount while the block lasts. Raises `Refused` if that is more than is left."""
        if self.used + amount > self.limit:
            raise Refused(
                "UNAVAILABLE",
                f"this replica works on {self.used:,} {self.unit} of other requests, of at most {self.limit:,}; "
                "send the request again",
            )
        self.used += amount
        try:
            yield
        finally:
            self.used -= amount


class Batcher:
    """Denoises the images of requests. Requests that wait while a batch is computed are the next batch.

    It belongs to one event loop.

    Args:
        denoise: takes the images of a batch and returns the denoised images, in the same order.
        thread: computes the batches.
        max_pixels: of a batch. A request of more pixels is a batch alone.
    """

    def __init__(self, denoise: Callable[[Sequence[Item]], Sequence[Any]], thread: ThreadPoolExecutor, max_pixels: int):
        self.denoise, self.thread, self.max_pixels = denoise, thread, max_pixels
        self.waiting: deque[tuple[Images, asyncio.Future]] = deque()
        self.working: asyncio.Task | None = None

    async def __call__(self, images: Images) -> list[Any]:
        """Return the denoised images of one request. Raises what `denoise` raised for its batch."""
        future = asyncio.get_running_loop().create_future()
        self.waiting.append((images, future))
        if self.working is None or self.working.done():
            self.working = asyncio.create_task(self._work())
        return await future

    async def _work(self):
        while self.waiting:
            batch = self._next_batch()
            items = [item for images, _ in batch for item in images.items]
            try:
                loop = asyncio.get_running_loop()
                denoised = iter(await loop.run_in_executor(self.thread, self.denoise, items))
            except Exception as error:  # noqa: BLE001 - it belongs to the requests, which report it
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            for images, future in batch:
                result = list(islice(denoised, len(images.items)))
                if not future.done():  # it is done if the request was cancelled
                    future.set_result(result)

    def _next_batch(self):
        batch = [self.waiting.popleft()]
        pixels = batch[0][0].pixels
        while self.waiting and pixels + self.waiting[0][0].pixels <= self.max_pixels:
            batch.append(self.waiting.popleft())
            pixels += batch[-1][0].pixels
        return [(images, future) for images, future in batch if not future.done()]
