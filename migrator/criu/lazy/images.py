"""Where the pages lie that CRIU leaves out of a lazy restore: in its images, or in those below them (`parent`)."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable, Iterator
from pathlib import Path

from migrator.criu.entries import IMAGE_LIMIT_BYTES, damaged, entry_texts, parse_entry
from migrator.criu.extents import IN_PARENT, PAGE_BYTES, is_in_file, length_of
from migrator.criu.layers import PARENT_LINK
from migrator.criu.lazy.spans import Span
from migrator.criu.memory_map import ADDRESS_LIMIT, MM_MARK, PAGEMAP_MARK
from migrator.gen.criu.images_pb2 import MmEntry, PagemapEntry, PagemapHead

LAZY = 2
"""Flag of a stretch of pages: a lazy restore leaves it out (criu/include/image.h)."""
Opener = Callable[[Path], int]
"""Opens a file of pages and gives its descriptor."""


def read_spans(directory: Path, pid: int, open_pages: Opener) -> list[Span]:
    """Find all pages of a process that a lazy restore leaves out.

    Args:
        directory: The images.
        pid: The process as it knows itself.
        open_pages: Called once for each file of pages.

    Raises:
        IntegrityError: `bad_images`.
    """
    lazy = [span for flags, span in _spans(directory, pid, open_pages) if flags & LAZY]
    return list(_cut(lazy, sorted({vma.end for vma in _read_mm(directory, pid).vmas})))


def _spans(directory: Path, pid: int, open_pages: Opener) -> Iterator[tuple[int, Span]]:
    """All pages that a pagemap tells of, in the order of their addresses, with their flags."""
    name = f"pagemap-{pid}.img"
    texts = entry_texts(name, _read(directory / name), PAGEMAP_MARK)
    first = next(texts, None)
    if first is None:
        raise damaged(name, "it does not say where its pages are")
    file = open_pages(directory / f"pages-{parse_entry(name, first, PagemapHead).pages_id}.img")
    below: _Below | None = None
    offset, end, limit_bytes = 0, 0, os.fstat(file).st_size
    for text in texts:
        entry = parse_entry(name, text, PagemapEntry)
        size_bytes = length_of(entry)
        if entry.vaddr % PAGE_BYTES or entry.vaddr < end or entry.vaddr + size_bytes > ADDRESS_LIMIT:
            raise damaged(name, f"it lists pages at {entry.vaddr:#x}, out of order")
        end = entry.vaddr + size_bytes
        if is_in_file(entry):
            if offset + size_bytes > limit_bytes:
                raise damaged(name, "it lists more pages than there are")
            yield entry.flags, Span(entry.vaddr, end, file, offset)
            offset += size_bytes
        elif entry.flags & IN_PARENT or entry.in_parent:
            below = below or _Below(directory / PARENT_LINK, pid, open_pages)
            for span in below.between(entry.vaddr, entry.vaddr + size_bytes):
                yield entry.flags, span
        else:
            raise damaged(name, f"its pages at {entry.vaddr:#x} are nowhere")


class _Below:
    """The images that these lie over."""

    def __init__(self, directory: Path, pid: int, open_pages: Opener):
        self._name = f"pagemap-{pid}.img"
        self._spans = [span for _, span in _spans(directory, pid, open_pages)]
        self._starts = [span.start for span in self._spans]

    def between(self, start: int, end: int) -> Iterator[Span]:
        """The pages between two addresses; all of them must be there."""
        number = bisect_right(self._starts, start) - 1
        while start < end:
            span = self._spans[number] if 0 <= number < len(self._spans) else None
            if span is None or not span.start <= start < span.end:
                raise damaged(self._name, f"the page at {start:#x} is in no images below")
            yield span.within(start, end)
            start, number = min(span.end, end), number + 1


def _cut(spans: list[Span], ends: list[int]) -> Iterator[Span]:
    """Cut spans where mappings end: the kernel takes pages for one mapping at a time."""
    for span in spans:
        number = bisect_right(ends, span.start)
        while span.size_bytes:
            end = min(span.end, ends[number]) if number < len(ends) else span.end
            yield span.within(span.start, end)
            span, number = span.within(end, span.end), number + 1


def _read_mm(directory: Path, pid: int) -> MmEntry:
    name = f"mm-{pid}.img"
    text = next(entry_texts(name, _read(directory / name), MM_MARK), None)
    if text is None:
        raise damaged(name, "it has no entry")
    return parse_entry(name, text, MmEntry)


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            data = opened.read(IMAGE_LIMIT_BYTES + 1)
    except OSError as error:
        raise damaged(file.name, error.strerror or "it cannot be read") from error
    if len(data) > IMAGE_LIMIT_BYTES:
        raise damaged(file.name, "it is too long")
    return data
