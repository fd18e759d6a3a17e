"""How many cores there are, and a map over threads that does not run away from its consumer."""

import os


def cores():
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def map_ahead(pool, function, items, ahead):
    """Yield `function(item)` for each of `items`, in order, computed in the threads of `pool`.

    Unlike `pool.map`, at most `ahead` items are taken before their results are asked for, so that neither a long
    list nor large results pile up in memory.
    """
    pending = []
    for item in items:
        pending.append(pool.submit(function, item))
        if len(pending) >= ahead:
            yield pending.pop(0).result()
    for future in pending:
        yield future.result()
