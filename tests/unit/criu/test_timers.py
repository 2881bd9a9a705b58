"""Periodic timers that expired unread are mended in CRIU's images, and nothing else is touched."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from migrator.criu.timers import FILES_IMAGE, wake_timers
from migrator.gen.criu.files_pb2 import FileEntry, TimerfdEntry

MAGIC = struct.pack("<II", 0x54564319, 0x56303138)
UNREAD = b"\x08\x11\x10\x07"
"""Fields 1 and 2, which our message does not know."""


def write(directory: Path, *entries: bytes) -> Path:
    file = directory / FILES_IMAGE
    file.write_bytes(MAGIC + b"".join(struct.pack("<I", len(entry)) + entry for entry in entries))
    return file


def timer(left_ns: int, period_ns: int) -> bytes:
    entry = TimerfdEntry(ticks=1, vsec=0, vnsec=left_ns, isec=0, insec=period_ns)
    return UNREAD + FileEntry(tfd=entry).SerializeToString()


def read(file: Path) -> list[FileEntry]:
    data, found = file.read_bytes()[8:], []
    while data:
        (size,) = struct.unpack_from("<I", data)
        found.append(FileEntry.FromString(data[4 : 4 + size]))
        data = data[4 + size :]
    return found


def test_a_periodic_timer_with_nothing_left_gets_a_period(tmp_path: Path) -> None:
    file = write(tmp_path, UNREAD, timer(0, 20_000_000), timer(0, 0), timer(5, 7))
    assert wake_timers(tmp_path) == 1
    assert file.read_bytes().startswith(MAGIC)
    other, mended, once, runs = read(file)
    assert (mended.tfd.vsec, mended.tfd.vnsec, mended.tfd.insec, mended.tfd.ticks) == (0, 20_000_000, 20_000_000, 1)
    assert (once.tfd.vnsec, once.tfd.insec) == (0, 0)
    assert once.tfd.HasField("vnsec"), "CRIU requires each field, zero or not"
    assert (runs.tfd.vnsec, runs.tfd.insec) == (5, 7)
    assert other.SerializeToString() == UNREAD
    assert all(UNREAD in entry.SerializeToString() for entry in (mended, once, runs))


@pytest.mark.parametrize("entries", [(), (UNREAD, timer(5, 7))])
def test_without_such_a_timer_nothing_is_written(tmp_path: Path, entries: tuple[bytes, ...]) -> None:
    file = write(tmp_path, *entries)
    before = file.stat().st_mtime_ns, file.read_bytes()
    assert wake_timers(tmp_path) == 0
    assert (file.stat().st_mtime_ns, file.read_bytes()) == before


@pytest.mark.parametrize("data", [b"", MAGIC + b"\x05", MAGIC + b"\xff\0\0\0ab", MAGIC + b"\x02\0\0\0\xff\xff"])
def test_what_is_laid_out_otherwise_is_left_alone(tmp_path: Path, data: bytes) -> None:
    (tmp_path / FILES_IMAGE).write_bytes(data)
    assert wake_timers(tmp_path) == 0
    assert (tmp_path / FILES_IMAGE).read_bytes() == data


def test_no_such_image(tmp_path: Path) -> None:
    assert wake_timers(tmp_path) == 0
