"""Read the memory of another process, or a file, into a buffer that is used again and again: fresh memory is slow."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

_LIBC = ctypes.CDLL(None, use_errno=True)


class _Span(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


_LIBC.process_vm_readv.restype = ctypes.c_ssize_t
_LIBC.process_vm_readv.argtypes = [
    ctypes.c_int,
    ctypes.POINTER(_Span),
    ctypes.c_ulong,
    ctypes.POINTER(_Span),
    ctypes.c_ulong,
    ctypes.c_ulong,
]


class Buffer:
    """Memory that is read into.

    Args:
        size_bytes: How much.
    """

    def __init__(self, size_bytes: int):
        self.view = memoryview(bytearray(size_bytes))
        self.address = ctypes.addressof((ctypes.c_char * size_bytes).from_buffer(self.view))


class Source(Protocol):
    """Where pages can be read by their addresses."""

    def fill(self, buffer: Buffer, address: int, size_bytes: int) -> None:
        """Read pages to the beginning of a buffer.

        Raises:
            OSError: They cannot be read, or not all of them.
        """

    def __enter__(self) -> Self:
        """Open it."""

    def __exit__(self, *_: object) -> None:
        """Close it."""


class FileSource:
    """A file: shared memory by one of its mappings (/proc/PID/map_files, /proc/PID/fd), or an image of pages.

    Args:
        path: The file.
    """

    def __init__(self, path: Path):
        self.path = path
        self._file = -1

    def __enter__(self) -> Self:
        """Open it."""
        self._file = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        os.close(self._file)

    def fill(self, buffer: Buffer, address: int, size_bytes: int) -> None:
        """See `Source.fill`."""
        _fill_from(self._file, buffer, 0, address, size_bytes)


class ProcessSource:
    """What is in the memory of a process.

    Args:
        process: Its directory in /proc.
        base: What is added to each address.
    """

    def __init__(self, process: Path, base: int = 0):
        self._process = process
        self._base = base
        self._file = -1

    def __enter__(self) -> Self:
        """Open it."""
        self._file = os.open(self._process / "mem", os.O_RDONLY | os.O_CLOEXEC)
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        os.close(self._file)

    def fill(self, buffer: Buffer, address: int, size_bytes: int) -> None:
        """See `Source.fill`; what the process itself may not read is read by the slower of two ways."""
        address += self._base
        local, remote = _Span(buffer.address, size_bytes), _Span(address, size_bytes)
        pid = int(self._process.name)
        done = _LIBC.process_vm_readv(pid, ctypes.byref(local), 1, ctypes.byref(remote), 1, 0)
        if done < size_bytes:
            done = max(done, 0)
            _fill_from(self._file, buffer, done, address + done, size_bytes - done)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where pages are.

    Args:
        path: `/proc/PID/mem`, or a file.
        base: What is added to their addresses: shared memory counts from 0, and somebody has it mapped here.
    """

    path: Path
    base: int = 0

    def open(self) -> Source:
        """Open it."""
        return ProcessSource(self.path.parent, self.base) if self.path.name == "mem" else FileSource(self.path)


def _fill_from(file: int, buffer: Buffer, place: int, offset: int, size_bytes: int) -> None:
    while size_bytes:
        done = os.preadv(file, [buffer.view[place : place + size_bytes]], offset)
        if not done:
            raise OSError(f"{size_bytes} bytes at {offset:#x} are not there")
        place, offset, size_bytes = place + done, offset + done, size_bytes - done


def inner_pid(process: Path) -> int:
    """The pid that a process has for itself, by which CRIU names its images.

    Raises:
        LookupError: The kernel does not tell.
        OSError: It is gone.
    """
    for line in (process / "status").read_text().splitlines():
        if line.startswith("NSpid:"):
            return int(line.split()[-1])
    raise LookupError("NSpid")
