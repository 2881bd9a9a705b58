"""One at a time across processes: a lock on a file, given back by the kernel when its holder dies."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from migrator.errors import ResourceBusy


@contextmanager
def exclusive(file: Path, timeout_s: float) -> Iterator[None]:
    """Hold `file` locked while the body runs.

    Raises:
        ResourceBusy: Another process still held it after `timeout_s`.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + timeout_s
    while (descriptor := _try_lock(file)) is None:
        if time.monotonic() > deadline:
            raise ResourceBusy(
                f"another process has held {file} for more than {timeout_s:.0f} s",
                code="lab_locked",
                remedy="wait for the other `migrator lab` command to end",
            )
        time.sleep(0.05)
    try:
        yield
    finally:
        os.close(descriptor)


def _try_lock(file: Path) -> int | None:
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The holder before us may have removed the file: then this lock is on a file nobody else will ever see.
        if file.exists() and os.fstat(descriptor).st_ino == file.stat().st_ino:
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(descriptor)
    return None
