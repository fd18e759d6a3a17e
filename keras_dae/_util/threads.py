"""The number of cores, and a map over threads that computes only a little ahead of its consumer."""

import math
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from typing import TypeVar

from keras_dae._util.cgroups import cpu_quota

Item = TypeVar("Item")
Result = TypeVar("Result")


def cores() -> int:
    """Return the number of cores that this process may use: those of its affinity, or fewer if a container limits it.

    A limit of 1.5 cores gives 2.
    """
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(available, math.ceil(cpu_quota() or available)))


def map_ahead(
    pool: Executor, function: Callable[[Item], Result], items: Iterable[Item], ahead: int
) -> Iterator[Result]:
    """Yield `function(item)` for each item, in order, computed by the threads of `pool`.

    Unlike `pool.map`, it takes at most `ahead` items before their results are consumed. So neither a long iterable nor
    large results fill the memory.

    Example:
        >>> from concurrent.futures import ThreadPoolExecutor
        >>> with ThreadPoolExecutor() as pool:
        ...     list(map_ahead(pool, abs, [-1, -2, -3], ahead=2))
        [1, 2, 3]
    """
    pending = []
    for item in items:
        pending.append(pool.submit(function, item))
        if len(pending) >= ahead:
            yield pending.pop(0).result()
    for future in pending:
        yield future.result()
