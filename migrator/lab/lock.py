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
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _acquire(descriptor, file, timeout_s)
        yield
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, file: Path, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                raise ResourceBusy(
                    f"another process has held {file} for more than {timeout_s:.0f} s",
                    code="lab_locked",
                    remedy="wait for the other `migrator lab` command to end",
                ) from error
            time.sleep(0.05)
        else:
            return
