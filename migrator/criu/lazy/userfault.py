"""The kernel's userfaultfd (ioctl_userfaultfd(2)): who touches a page that is not there yet waits until we bring it."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import struct
from dataclasses import dataclass
from enum import IntEnum

from migrator.criu.extents import PAGE_BYTES

API = 0xAA
MESSAGE_BYTES = 32
_NUMBERS = {"x86_64": 323, "aarch64": 282}
"""Of the system call userfaultfd."""
_ASK = 0xC018AA3F
_WAKE = 0x8010AA02
_COPY = 0xC028AA03
_ZERO = 0xC020AA04
_COPY_FORM = struct.Struct("<QQQQq")
_ZERO_FORM = struct.Struct("<QQQq")
_RANGE_FORM = struct.Struct("<QQ")
_ASK_FORM = struct.Struct("<QQQ")
_NEEDED = 0b1111 << 1 | 1 << 6
"""To be told of fork, mremap, madvise and munmap; CRIU asks for the same (criu/include/kerndat.h)."""
_ADDRESSES = 1 << 47


class Event(IntEnum):
    """What the kernel tells."""

    FAULT = 0x12
    FORK = 0x13
    REMAP = 0x14
    REMOVE = 0x15
    UNMAP = 0x16


class ProcessGone(Exception):
    """The memory belongs to nobody any more."""


class TryAgain(Exception):
    """The address space is changing: the kernel has something to tell first."""


class NoMemoryYet(Exception):
    """The kernel, or the container's limit, has no page to give right now."""


@dataclass(frozen=True, slots=True)
class Message:
    """One thing that the kernel tells. Which words mean what depends on the event."""

    event: Event
    words: tuple[int, int, int]
    """FAULT: flags, address. FORK: the child's descriptor. REMAP: from, to, length. REMOVE, UNMAP: start, end."""


def parse_message(data: bytes | memoryview) -> Message:
    """Read what the kernel wrote."""
    kind, *words = struct.unpack("<B7xQQQ", data)
    event = Event(kind)
    if event is Event.FORK:
        words[0] &= 0xFFFFFFFF
    return Message(event, (words[0], words[1], words[2]))


def copy(descriptor: int, address: int, source: int, size_bytes: int) -> int:
    """Put pages where there are none yet.

    Args:
        descriptor: The userfaultfd of the memory.
        address: Where they belong.
        source: Where they lie in our own memory.
        size_bytes: How many bytes, whole pages.

    Returns:
        How many bytes were placed. 0: nothing is to be placed at the first page, because it has one, or because
        nothing is mapped there any more.

    Raises:
        ProcessGone: Nobody needs them.
        TryAgain: Read what the kernel has to tell first.
        NoMemoryYet: Try it later.
    """
    request = bytearray(_COPY_FORM.pack(address, source, size_bytes, 0, 0))
    return _place(descriptor, _COPY, request, _COPY_FORM)


def zero(descriptor: int, address: int, size_bytes: int) -> int:
    """Put empty pages where there are none yet; see `copy`."""
    request = bytearray(_ZERO_FORM.pack(address, size_bytes, 0, 0))
    return _place(descriptor, _ZERO, request, _ZERO_FORM)


def _place(descriptor: int, request: int, data: bytearray, form: struct.Struct) -> int:
    try:
        fcntl.ioctl(descriptor, request, data, True)
    except OSError as error:
        done = int(form.unpack(data)[-1])
        if done > 0:
            return done
        if error.errno == errno.EAGAIN:
            raise TryAgain from error
        if error.errno in (errno.EEXIST, errno.ENOENT):
            return 0
        if error.errno == errno.ENOMEM:
            raise NoMemoryYet from error
        if error.errno in (errno.ESRCH, errno.ENOSPC):
            raise ProcessGone from error
        raise
    return int(form.unpack(data)[-1])


def wake(descriptor: int, address: int, size_bytes: int) -> None:
    """Let those who wait touch their page again; what is still missing is told anew."""
    try:
        fcntl.ioctl(descriptor, _WAKE, _RANGE_FORM.pack(address, size_bytes))
    except OSError as error:
        if error.errno not in (errno.ESRCH, errno.EINVAL):
            raise


def wake_all(descriptor: int) -> None:
    """Let all who wait touch their page again."""
    wake(descriptor, PAGE_BYTES, _ADDRESSES - 2 * PAGE_BYTES)


def why_not() -> str:
    """Say why this host cannot bring memory behind a program that runs; empty if it can."""
    number = _NUMBERS.get(platform.machine())
    if number is None:
        return f"userfaultfd is not known on {platform.machine()}"
    library = ctypes.CDLL(None, use_errno=True)
    descriptor = library.syscall(number, os.O_CLOEXEC | os.O_NONBLOCK)
    if descriptor < 0:
        return f"the kernel gives no userfaultfd: {os.strerror(ctypes.get_errno())}"
    request = bytearray(_ASK_FORM.pack(API, _NEEDED, 0))
    try:
        fcntl.ioctl(descriptor, _ASK, request, True)
    except OSError as error:
        return f"the kernel's userfaultfd tells too little: {os.strerror(error.errno or 0)}"
    finally:
        os.close(descriptor)
    return ""
