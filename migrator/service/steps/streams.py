"""What a task has written before it is dumped: all of it must have left the pipe to its shim."""

from __future__ import annotations

import fcntl
import os
import stat
import struct
import termios
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from migrator.containerd import Task
from migrator.errors import PreconditionFailed
from migrator.models.streams import log_files, log_programs
from migrator.models.volumes import Volume, VolumeKind, VolumePolicy

DRAINED_S = 2.0
LOOK_S = 0.005
SETTLE_S = 0.05
"""The shim writes what it has read from the pipe at once; so much later it surely has. CRIU needs longer."""


def await_drained(task: Task, stdio: Mapping[str, Any]) -> None:
    """Wait until the shim or log program has read all that a frozen task wrote.

    What is in the pipe at the dump is lost: a restored task gets new pipes. A FIFO may have no reader: not waited for.

    Raises:
        PreconditionFailed: `output_stuck`.
    """
    if not (log_files(stdio) or log_programs(stdio)):
        return
    deadline = time.monotonic() + DRAINED_S
    while any(_unread_bytes(Path(f"/proc/{task.pid}/fd/{number}")) for number in (1, 2)):
        if time.monotonic() > deadline:
            raise PreconditionFailed(
                f"the output of container '{task.container_id}' is not read by its log",
                code="output_stuck",
                remedy="look whether the log's disk is full or its program hangs",
            )
        time.sleep(LOOK_S)


def logs_of(stdio: Mapping[str, Any]) -> tuple[Volume, ...]:
    """The log files of a task as what they travel as: single files, by the role of each."""
    return tuple(
        Volume(destination=role, source=path, policy=VolumePolicy.COPY, kind=VolumeKind.FILE, role=role)
        for role, path in log_files(stdio).items()
    )


def log_bytes(stdio: Mapping[str, Any]) -> int:
    """How much was written into log files so far."""
    return sum(Path(log.source).stat().st_size for log in logs_of(stdio) if is_log(log))


def is_log(log: Volume) -> bool:
    """Whether there is a file to take along: not before the first line, and not if it is a device."""
    return Path(log.source).is_file()


def _unread_bytes(end: Path) -> int:
    with suppress(OSError):  # it was closed, or is something else by now
        if stat.S_ISFIFO(end.stat().st_mode):
            handle = os.open(end, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                (count,) = struct.unpack("i", fcntl.ioctl(handle, termios.FIONREAD, b"\0" * 4))
                return int(count)
            finally:
                os.close(handle)
    return 0
