"""Periodic timerfds that would stand still after a restore: mended in CRIU's images.

The kernel lets a periodic timerfd that expired rest until it is read, and tells then that nothing is left until it
expires next. CRIU 4.2 keeps that nothing, and to set a timer to nothing is to stop it. A frozen program reads nothing,
so every timer that expires between the pause and the dump is met so. Here it gets one period as what is left.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.message import DecodeError

from migrator.gen.criu.files_pb2 import FileEntry

FILES_IMAGE = "files.img"
_MAGIC_BYTES = 8
_SIZE = struct.Struct("<I")


def wake_timers(directory: Path) -> int:
    """Mend the images of a dump and return how many timers would have stood still.

    Images that are not laid out as expected are left alone: CRIU judges them at the restore.
    """
    file = directory / FILES_IMAGE
    if not file.is_file():
        return 0
    data = file.read_bytes()
    try:
        entries = list(_entries(data))
    except (DecodeError, struct.error):
        return 0
    woken = sum(_wake(entry) for entry in entries)
    if woken:
        texts = (entry.SerializeToString() for entry in entries)
        file.write_bytes(data[:_MAGIC_BYTES] + b"".join(_SIZE.pack(len(text)) + text for text in texts))
    return woken


def _wake(entry: FileEntry) -> bool:
    timer = entry.tfd
    stands = entry.HasField("tfd") and not (timer.vsec or timer.vnsec) and bool(timer.isec or timer.insec)
    if stands:
        timer.vsec, timer.vnsec = timer.isec, timer.insec
    return stands


def _entries(data: bytes) -> Iterator[FileEntry]:
    place = _MAGIC_BYTES
    while place < len(data):
        (size_bytes,) = _SIZE.unpack_from(data, place)
        place += _SIZE.size
        if place + size_bytes > len(data):
            raise DecodeError("the last entry is cut off")
        yield FileEntry.FromString(data[place : place + size_bytes])
        place += size_bytes
