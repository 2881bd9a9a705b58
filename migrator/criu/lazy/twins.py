"""Two processes that share their open files: when one dies, nothing of them is closed, and the other goes on.

A userfaultfd whose last descriptor closes lets the program run on with empty pages where some had not come. So the
server's twin has the very same table of descriptors (clone(2), CLONE_FILES), also of those that come later.
"""

from __future__ import annotations

import ctypes
import os
import platform
import select
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

_CLONE_FILES = 0x400
_CLONE = {"x86_64": 56, "aarch64": 220}
_GETFD = 438
"""Of the system call pidfd_getfd, the same on both."""


def is_known() -> bool:
    """Whether this machine's system calls are known here."""
    return platform.machine() in _CLONE


def start_twin(wait: Callable[[int], NoReturn]) -> int:
    """Start a process that shares the descriptors and return its pid.

    Args:
        wait: What it does, given the pid of the one that it waits for. It must end by `os._exit`: what Python closes
            at an ordinary end is in use.
    """
    me = os.getpid()
    library = ctypes.CDLL(None, use_errno=True)
    pid = int(library.syscall(_CLONE[platform.machine()], _CLONE_FILES | signal.SIGCHLD, 0, 0, 0, 0))
    if pid < 0:
        raise OSError(ctypes.get_errno(), "no twin could be started")
    if pid == 0:
        try:
            wait(me)
        finally:
            os._exit(1)
    return pid


def await_end(pid: int, timeout_s: float | None = None) -> bool:
    """Wait until a process has ended; False when the time was over first."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(None if timeout_s is None else timeout_s * 1000))
    finally:
        os.close(descriptor)


def lives(pid: int) -> bool:
    """Whether a process lives; one that ended and was not yet buried does not."""
    with suppress(OSError):
        stat = Path(f"/proc/{pid}/stat").read_bytes()
        return stat.rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    return False


def borrow(pid: int, descriptor: int) -> int | None:
    """Have a descriptor of another process, too; None if it has it no more."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    try:
        found = int(ctypes.CDLL(None, use_errno=True).syscall(_GETFD, process, descriptor, 0))
    finally:
        os.close(process)
    return None if found < 0 else found
