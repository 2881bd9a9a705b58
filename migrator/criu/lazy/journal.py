"""What must survive the death of the process that serves pages: a file in memory that it shares with its twin.

The kernel writes what it tells straight into the file, as a part of the `read` that takes it: no moment lies between in
which it could get lost. Workers read here how far the memory is.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from migrator.criu.lazy.userfault import MESSAGE_BYTES

NAME = "lazy-journal"
_WORD = struct.Struct("<Q")
_SLOT = struct.Struct(f"<II{MESSAGE_BYTES}s")
_FIRST_SLOT = 4096
_CAPACITY_BYTES = 8 << 20
"""At first; it takes memory only as far as it is written."""
_LONGEST_BYTES = 512 << 20


class State(IntEnum):
    """How far a server is."""

    STARTING = 0
    READY = 1
    """CRIU may connect."""
    SERVING = 2
    """The program may run, and not all of its memory is there."""
    WHOLE = 3
    """All of it is there."""
    BROKEN = 4
    """No program came of it."""
    LOST = 5
    """Nobody serves any more, and the program was ended."""


class Kind(IntEnum):
    """What a slot tells."""

    NOTHING = 0
    PROCESS = 1
    """A process of the restore: its userfaultfd, and its pid as the first word."""
    EVENT = 2
    """What the kernel told of a userfaultfd."""
    GONE = 3
    """A userfaultfd was closed: its process has ended."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One thing that happened."""

    kind: Kind
    descriptor: int
    data: bytes


def _number(place: int) -> property:
    """A number at a fixed place in the file."""

    def read(self: Journal) -> int:
        return int(_WORD.unpack_from(self.memory, place)[0])

    def write(self: Journal, value: int) -> None:
        _WORD.pack_into(self.memory, place, value)

    return property(read, write)


class Journal:
    """The file, mapped."""

    _state = _number(0)
    server = _number(8)
    """Which process serves."""
    twin = _number(16)
    """Which one takes its place."""
    total_bytes = _number(24)
    left_bytes = _number(32)
    said = _number(40)
    """What CRIU said last: the kernel writes it here."""
    line = _number(48)
    """The descriptor of the line to CRIU."""
    slots = _number(56)
    """How many there are; the one behind them may have been written already."""
    watcher = _number(64)
    """A process that holds the userfaultfds, too; 0: none."""
    faults = _number(72)
    """How often the program had to wait for a page."""
    SAID = slice(40, 44)

    def __init__(self, descriptor: int, *, create: bool = False):
        if create:
            os.ftruncate(descriptor, _CAPACITY_BYTES)
        self._descriptor = descriptor
        self.memory = mmap.mmap(descriptor, 0)

    @classmethod
    def create(cls, directory: Path) -> Journal:
        """Make a fresh one; what was there is another's, who has it still."""
        path = directory / NAME
        path.unlink(missing_ok=True)
        return cls(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), create=True)

    @classmethod
    def open(cls, directory: Path) -> Journal | None:
        """Open the one that is there; None if there is none."""
        try:
            descriptor = os.open(directory / NAME, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        if os.fstat(descriptor).st_size < _FIRST_SLOT:
            os.close(descriptor)
            return None
        return cls(descriptor)

    @property
    def state(self) -> State:
        """How far the server is."""
        return State(self._state)

    @state.setter
    def state(self, value: State) -> None:
        self._state = int(value)

    def is_at(self, directory: Path) -> bool:
        """Whether this is still the file there, and not another one, or none."""
        try:
            return os.path.samestat((directory / NAME).stat(), os.fstat(self._descriptor))
        except FileNotFoundError:
            return False

    def next_slot(self, kind: Kind, descriptor: int) -> memoryview:
        """Begin a slot and give the place of its data; it counts once that is not zero."""
        place = _FIRST_SLOT + self.slots * _SLOT.size
        if place + _SLOT.size > len(self.memory):
            self._grow()
        _SLOT.pack_into(self.memory, place, kind, descriptor, b"")
        return memoryview(self.memory)[place + 8 : place + _SLOT.size]

    def keep_slot(self) -> None:
        """The slot that was begun stays; one that is not kept is begun anew."""
        self.slots += 1

    def note(self, kind: Kind, descriptor: int, word: int = 0) -> None:
        """Write a slot of our own."""
        with self.next_slot(kind, descriptor) as data:
            data[:] = _WORD.pack(word).ljust(MESSAGE_BYTES, b"\0")
        self.keep_slot()

    def since(self, number: int) -> Iterator[Slot]:
        """The slots from one on that the server has counted."""
        count = self.slots
        self._follow()
        for at in range(number, count):
            kind, descriptor, data = _SLOT.unpack_from(self.memory, _FIRST_SLOT + at * _SLOT.size)
            yield Slot(Kind(kind), descriptor, data)

    def count_last(self) -> None:
        """Count the slot that the kernel wrote and nobody came to count, if there is one."""
        self._follow()
        place = _FIRST_SLOT + self.slots * _SLOT.size
        if place + _SLOT.size <= len(self.memory) and any(_SLOT.unpack_from(self.memory, place)[2]):
            self.keep_slot()

    def close(self) -> None:
        """Let go of it; the file stays."""
        self.memory.close()
        os.close(self._descriptor)

    def _grow(self) -> None:
        size_bytes = 2 * len(self.memory)
        if size_bytes > _LONGEST_BYTES:
            raise MemoryError("the journal of a page server is full")
        os.ftruncate(self._descriptor, size_bytes)
        self._follow()

    def _follow(self) -> None:
        """Map what was added to the file since."""
        if os.fstat(self._descriptor).st_size != len(self.memory):
            self.memory = mmap.mmap(self._descriptor, 0)
