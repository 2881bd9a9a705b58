"""Give memory back when a transfer is over: the C library keeps what it once had, in a heap for each thread."""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress

MMAP_THRESHOLD, TRIM_THRESHOLD, ARENA_MAX = -3, -1, -8
"""Parameters of mallopt(3)."""
LARGE_BYTES = 256 << 10
"""What is as large as this is given back at once; otherwise the limit would grow with the first pack that is freed."""
ARENAS = 2


def keep_little() -> None:
    """Let the C library keep little of what is freed. To be called before there are threads.

    Where it is another one than glibc nothing happens.
    """
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        for parameter, value in ((MMAP_THRESHOLD, LARGE_BYTES), (TRIM_THRESHOLD, LARGE_BYTES), (ARENA_MAX, ARENAS)):
            library.mallopt(parameter, value)


def keep_what_is_there() -> None:
    """Let no collection look through what a worker has once it is ready: it stays, and takes a tenth of a second."""
    gc.collect()
    gc.freeze()
