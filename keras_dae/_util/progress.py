"""A progress bar."""

import threading
from typing import Any

from tqdm import tqdm


class ProgressBar(tqdm):
    """A bar of tqdm that leaves no thread behind, and no semaphore of the system.

    It is shown on terminals only, and not if `total` is 0.

    Args:
        description: what is done, in words.
        total: number of steps.
        items: what `for` iterates over; None if `update` is called instead.
    """

    monitor_interval = 0  # no thread that watches the bars

    def __init__(self, description: str, total: int, items: Any = None):
        disable = None if total else True
        super().__init__(items, description, total, unit=" images", disable=disable, miniters=1)


ProgressBar.set_lock(threading.RLock())  # tqdm's own is one between processes, for which the system makes a file
