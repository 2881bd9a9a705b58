"""Cut CRIU's images into chunks so that a page which stays where it was, and as it was, is in the same chunk again.

`pages-N.img` holds pages one after the other, so one that comes or goes moves all behind it. `pagemap-N.img` tells the
address of each: the file is cut where a multiple of EXTENT_BYTES of the program's addresses begins.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import groupby
from pathlib import Path

from google.protobuf.message import DecodeError

from migrator.criu.images import END, pack_image
from migrator.gen.criu.images_pb2 import PagemapEntry, PagemapHead

EXTENT_BYTES = 32 << 10
PAGE_BYTES = 4 << 10
PRESENT = 4
_MAGIC_BYTES = 8
_SIZE = struct.Struct("<I")

Cutter = Callable[[Iterable[bytes]], Iterator[bytes]]
"""Cuts a stream of bytes by its content."""


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


def _cut_pages(file: Path, runs: list[tuple[int, int]]) -> Iterator[bytes]:
    """Read a file of pages by extents. Runs that do not fit it only cost: what is left is cut at fixed places."""
    with file.open("rb") as source:
        for address, size_bytes in runs:
            end = address + size_bytes
            while address < end:
                stop = min(end, address - address % EXTENT_BYTES + EXTENT_BYTES)
                yield source.read(stop - address)
                address = stop
        while piece := source.read(EXTENT_BYTES):
            yield piece


def _runs_by_file(directory: Path) -> dict[str, list[tuple[int, int]]]:
    """Read the runs of pages, address and length, in each file of pages; a malformed pagemap tells nothing."""
    found: dict[str, list[tuple[int, int]]] = {}
    for file in sorted(directory.glob("pagemap-*.img")):
        try:
            name, runs = _read_pagemap(file.read_bytes())
        except (DecodeError, struct.error, StopIteration):
            continue
        pages = directory / name
        if pages.is_file() and sum(size_bytes for _, size_bytes in runs) <= pages.stat().st_size:
            found[name] = runs
    return found


def _read_pagemap(data: bytes) -> tuple[str, list[tuple[int, int]]]:
    entries = _entries(data)
    head = PagemapHead.FromString(next(entries))
    runs = [PagemapEntry.FromString(text) for text in entries]
    return f"pages-{head.pages_id}.img", [
        (run.vaddr, (run.nr_pages or run.compat_nr_pages) * PAGE_BYTES) for run in runs if _is_in_file(run)
    ]


def _is_in_file(run: PagemapEntry) -> bool:
    return bool(run.flags & PRESENT) if run.HasField("flags") else not run.in_parent


def _entries(data: bytes) -> Iterator[bytes]:
    place = _MAGIC_BYTES
    while place < len(data):
        (size_bytes,) = _SIZE.unpack_from(data, place)
        place += _SIZE.size
        if place + size_bytes > len(data):
            raise DecodeError("the last entry is cut off")
        yield data[place : place + size_bytes]
        place += size_bytes
