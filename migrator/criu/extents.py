"""Cut CRIU's images into chunks so that a page which stays where it was, and as it was, is in the same chunk again.

`pages-N.img` holds pages one after the other, so one that comes or goes moves all behind it. `pagemap-N.img` tells the
address of each: the file is cut where a multiple of EXTENT_BYTES of the program's addresses begins.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path

from google.protobuf.message import DecodeError

from migrator.criu.images import END, pack_image
from migrator.gen.criu.images_pb2 import PagemapEntry, PagemapHead

EXTENT_BYTES = 32 << 10
PAGE_BYTES = 4 << 10
IN_PARENT, PRESENT = 1, 4
"""Flags of a stretch of pages: in an earlier checkpoint's images; in these."""
_MAGIC_BYTES = 8
_SIZE = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Run:
    """Pages that lie side by side in memory."""

    address: int
    size_bytes: int

    @property
    def end(self) -> int:
        """Where it ends."""
        return self.address + self.size_bytes


Cutter = Callable[[Iterable[bytes]], Iterator[bytes]]
"""Cuts a stream of bytes by its content."""
Namer = Callable[[memoryview], bytes]
"""Gives a chunk its name."""
Known = Callable[[bytes], bool]
"""Says whether the bytes of the chunk with a name are elsewhere."""
Offer = tuple[bytes, int, bytes | Callable[[], bytes] | None]
"""A chunk of the tar of some images: its name, its length, and its bytes, who reads them, or None: they are known."""


def cut_images(directory: Path, cut_by_content: Cutter) -> Iterator[bytes]:
    """Give the bytes of `pack_images` in chunks: pages by their addresses, all else by content.

    Args:
        directory: The images.
        cut_by_content: For everything but pages.
    """
    runs = _runs_by_file(directory)
    for name, files in groupby(sorted(directory.iterdir()), key=lambda file: file.name if file.name in runs else ""):
        if name:
            yield from filter(None, pack_image(directory / name, cut=partial(_cut_pages, runs=runs[name])))
        else:
            yield from cut_by_content(piece for file in files for piece in pack_image(file))
    yield END


def join(runs: Iterable[Run]) -> Iterator[Run]:
    """Join runs that touch, so that their extents do not depend on where one of them happened to end."""
    before: Run | None = None
    for run in runs:
        if before is not None and before.end == run.address:
            before = Run(before.address, before.size_bytes + run.size_bytes)
            continue
        if before is not None:
            yield before
        before = run
    if before is not None:
        yield before


def extents_of(runs: Iterable[Run]) -> Iterator[Run]:
    """Cut runs where a multiple of EXTENT_BYTES begins."""
    for run in runs:
        address = run.address
        while address < run.end:
            stop = min(run.end, address - address % EXTENT_BYTES + EXTENT_BYTES)
            yield Run(address, stop - address)
            address = stop


def pieces_of(run: Run, size_bytes: int) -> Iterator[Run]:
    """Cut a run where multiples of some size begin, to be read a piece at a time; extents are not torn apart."""
    address = run.address
    while address < run.end:
        stop = min(run.end, address - address % size_bytes + size_bytes)
        yield Run(address, stop - address)
        address = stop


def cuts_of(run: Run) -> Iterator[tuple[int, int]]:
    """Where the extents of a run begin and end, counted from its beginning."""
    start = 0
    end = min(EXTENT_BYTES - run.address % EXTENT_BYTES, run.size_bytes)
    while start < run.size_bytes:
        yield start, end
        start, end = end, min(end + EXTENT_BYTES, run.size_bytes)


def _cut_pages(file: Path, runs: list[Run]) -> Iterator[bytes]:
    """Read a file of pages by extents. Runs that do not fit it only cost: what is left is cut at fixed places."""
    with file.open("rb") as source:
        for extent in extents_of(runs):
            yield source.read(extent.size_bytes)
        while piece := source.read(EXTENT_BYTES):
            yield piece


def _runs_by_file(directory: Path) -> dict[str, list[Run]]:
    """Read the runs of pages in each file of pages; a malformed pagemap tells nothing."""
    found: dict[str, list[Run]] = {}
    for file in sorted(directory.glob("pagemap-*.img")):
        try:
            name, runs = _read_pagemap(file.read_bytes())
        except (DecodeError, struct.error, StopIteration):
            continue
        pages = directory / name
        if pages.is_file() and sum(run.size_bytes for run in runs) <= pages.stat().st_size:
            found[name] = runs
    return found


def _read_pagemap(data: bytes) -> tuple[str, list[Run]]:
    entries = _entries(data)
    head = PagemapHead.FromString(next(entries))
    found = [PagemapEntry.FromString(text) for text in entries]
    runs = [Run(entry.vaddr, length_of(entry)) for entry in found if is_in_file(entry)]
    return f"pages-{head.pages_id}.img", list(join(runs))


def length_of(entry: PagemapEntry) -> int:
    """How many bytes of memory a stretch of pages covers."""
    return (entry.nr_pages or entry.compat_nr_pages) * PAGE_BYTES


def is_in_file(entry: PagemapEntry) -> bool:
    """Whether a stretch is in the file of pages beside it; CRIU before 2.12 had no flags and told only the opposite."""
    return bool(entry.flags & PRESENT) if entry.HasField("flags") else not entry.in_parent


def _entries(data: bytes) -> Iterator[bytes]:
    place = _MAGIC_BYTES
    while place < len(data):
        (size_bytes,) = _SIZE.unpack_from(data, place)
        place += _SIZE.size
        if place + size_bytes > len(data):
            raise DecodeError("the last entry is cut off")
        yield data[place : place + size_bytes]
        place += size_bytes
