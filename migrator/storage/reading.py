"""A part of a checkpoint as a file that can be read at any place, so that nobody fetches what nobody looks at."""

from __future__ import annotations

import io
from typing import BinaryIO, cast

from migrator.models.descriptors import Descriptor
from migrator.storage import layout
from migrator.storage.checkpoints import CheckpointStore
from migrator.storage.chunks import is_chunked
from migrator.storage.store import ObjectStore

READ_AHEAD_BYTES = 256 << 10


def open_part(store: CheckpointStore, part: Descriptor) -> BinaryIO:
    """Open a part, to read little of it.

    What is read of a blob was not held against its digest: show it, do not run it. Chunks are verified, each by itself.
    """
    if is_chunked(part):
        return store.open_part(part)
    return io.BufferedReader(cast("io.FileIO", _Blob(store.objects, part)), READ_AHEAD_BYTES)


class _Blob(io.RawIOBase):
    """A blob as a file."""

    def __init__(self, objects: ObjectStore, part: Descriptor):
        self._objects = objects
        self._key = layout.blob_key(part.digest)
        self._size_bytes = part.size_bytes
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size_bytes}[whence]
        self._place = max(0, base + offset)
        return self._place

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        length = min(len(buffer), max(0, self._size_bytes - self._place))
        if length:
            buffer[:length] = self._objects.get_range(self._key, self._place, length)
            self._place += length
        return length
