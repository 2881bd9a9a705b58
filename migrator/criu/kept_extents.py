"""Extents of a program's memory kept in a file, each once, so that the program may run while they are on their way."""

from __future__ import annotations

import os
import struct
import threading
from pathlib import Path
from typing import Self

from migrator.criu.images import no_place

_RECORD = struct.Struct("<32sQ")


class KeptExtents:
    """A file of extents, and which is where. May be used by several threads.

    Args:
        file: The file; what it has is known from the list beside it, if there is one.
    """

    def __init__(self, file: Path):
        self._list = file.with_suffix(".list")
        self._places: dict[bytes, int] = {}
        self._end = 0
        self._lock = threading.Lock()
        if self._list.exists():
            self._places = dict(_RECORD.iter_unpack(self._list.read_bytes()))
            self._end = file.stat().st_size
        self._file = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def __enter__(self) -> Self:
        """Give itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        os.close(self._file)

    def keep(self, names: list[bytes], contents: list[memoryview]) -> None:
        """Keep some extents; those that it has already cost nothing.

        Raises:
            ResourceExhausted: `no_room`.
        """
        with self._lock:
            new = [place for place, name in enumerate(names) if name not in self._places]
            start = self._end
            for place in new:
                self._places[names[place]] = self._end
                self._end += len(contents[place])
        try:
            if new:
                _write_all(self._file, [contents[place] for place in new], start)
        except OSError as error:
            raise no_place(self._list.parent, error) from error

    def read(self, name: bytes, size_bytes: int) -> bytes:
        """Return the bytes of an extent."""
        return os.pread(self._file, size_bytes, self._places[name])

    def save(self) -> None:
        """Write down what is where: after this, another may open it and go on."""
        temporary = self._list.with_suffix(".new")
        temporary.write_bytes(b"".join(_RECORD.pack(name, place) for name, place in self._places.items()))
        temporary.rename(self._list)


def _write_all(file: int, contents: list[memoryview], offset: int) -> None:
    left = sum(map(len, contents))
    done = os.pwritev(file, contents, offset)
    if done < left:  # never yet, on a file
        rest = memoryview(b"".join(contents))[done:]
        while rest:
            offset += done
            done = os.pwrite(file, rest, offset)
            rest = rest[done:]
