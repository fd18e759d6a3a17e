"""How the C library hands out memory."""

import ctypes
import functools
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
LARGEST_MMAP_THRESHOLD = 32 * 2**20  # bytes; glibc allows no more
KEPT = 2**30  # bytes of free memory at the top of a heap that are not returned to the system


@functools.cache
def keep_freed_memory() -> None:
    """Let glibc reuse large blocks of freed memory, as it learns to do by itself, instead of returning them each time.

    From Python 3.11 on, TensorFlow's first `py_function`, which is part of `Dataset.from_generator`, tells glibc to
    return every block of 128 KiB or more ("to mitigate memory leak in Python 3.11"). Then each training step gets its
    memory anew from the system, page by page, and takes nearly twice the time. Call this after that. Other C libraries
    are left alone.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)
        libc.mallopt(M_TRIM_THRESHOLD, KEPT)
