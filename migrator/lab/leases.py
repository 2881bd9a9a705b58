"""Lab names for one process alone, so that several test runs on one machine never meet in the same lab."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from migrator.errors import ResourceBusy
from migrator.lab.layout import LAB_RUN_DIR

MAX_LABS = 16


@contextmanager
def lab_name(base: str) -> Iterator[str]:
    """Own the first free name of `base`, `base-2`, `base-3`, … until the body ends or this process dies.

    Raises:
        ResourceBusy: All names are taken by living processes.
    """
    LAB_RUN_DIR.mkdir(mode=0o755, parents=True, exist_ok=True)
    for number in range(1, MAX_LABS + 1):
        name = base if number == 1 else f"{base}-{number}"
        descriptor = os.open(LAB_RUN_DIR / f".{name}.lease", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            continue
        try:
            yield name
        finally:
            os.close(descriptor)
        return
    raise ResourceBusy(f"{MAX_LABS} labs named {base} are in use", code="lab_names_taken")
