"""Where the pages of a lazy restore lie: as CRIU would read them, also in the images below."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from migrator.criu.entries import write_entries
from migrator.criu.extents import PAGE_BYTES
from migrator.criu.lazy.images import read_spans
from migrator.criu.memory_map import MM_MARK, PAGEMAP_MARK
from migrator.errors import IntegrityError
from migrator.gen.criu.images_pb2 import MmEntry, PagemapEntry, PagemapHead, VmaEntry

START = 0x7F0000000000
PARENT, LAZY, PRESENT = 1, 2, 4


def entry(page: int, pages: int, flags: int) -> PagemapEntry:
    return PagemapEntry(vaddr=START + page * PAGE_BYTES, compat_nr_pages=pages, nr_pages=pages, flags=flags)


def write(directory: Path, entries: list[PagemapEntry], *, ends: tuple[int, ...] = (1000,)) -> Path:
    directory.mkdir()
    (directory / "pagemap-1.img").write_bytes(write_entries(PAGEMAP_MARK, [PagemapHead(pages_id=3), *entries]))
    starts = (0, *ends)
    vmas = [
        VmaEntry(start=START + a * PAGE_BYTES, end=START + b * PAGE_BYTES) for a, b in zip(starts, ends, strict=False)
    ]
    (directory / "mm-1.img").write_bytes(write_entries(MM_MARK, [MmEntry(exe_file_id=1, vmas=vmas)]))
    pages = sum(entry.nr_pages for entry in entries if entry.flags & PRESENT)
    content = b"".join(f"{directory.name} {number}".encode().ljust(PAGE_BYTES, b".") for number in range(pages))
    (directory / "pages-3.img").write_bytes(content)
    return directory


def pages_of(directory: Path) -> dict[int, str]:
    """The content of each page by its number, read where a span says."""
    opened: list[int] = []

    def open_pages(path: Path) -> int:
        opened.append(os.open(path, os.O_RDONLY))
        return opened[-1]

    found = {}
    for span in read_spans(directory, 1, open_pages):
        for place in range(0, span.size_bytes, PAGE_BYTES):
            text = os.pread(span.file, PAGE_BYTES, span.offset + place).rstrip(b".").decode()
            found[(span.start + place - START) // PAGE_BYTES] = text
    for file in opened:
        os.close(file)
    return found


def test_only_lazy_pages_are_left_to_us(tmp_path: Path) -> None:
    images = write(tmp_path / "a", [entry(0, 2, LAZY | PRESENT), entry(5, 1, PRESENT), entry(6, 1, LAZY | PRESENT)])
    assert pages_of(images) == {0: "a 0", 1: "a 1", 6: "a 3"}


def test_pages_are_found_through_all_images_below(tmp_path: Path) -> None:
    lowest = write(tmp_path / "low", [entry(0, 6, LAZY | PRESENT)])
    middle = write(tmp_path / "mid", [entry(0, 2, LAZY | PARENT), entry(2, 1, PRESENT), entry(3, 3, PARENT)])
    (middle / "parent").symlink_to(lowest)
    images = write(tmp_path / "top", [entry(0, 5, LAZY | PARENT), entry(5, 1, LAZY | PRESENT)])
    (images / "parent").symlink_to("../mid")
    assert pages_of(images) == {0: "low 0", 1: "low 1", 2: "mid 0", 3: "low 3", 4: "low 4", 5: "top 0"}


def test_no_span_goes_over_the_end_of_a_mapping(tmp_path: Path) -> None:
    images = write(tmp_path / "a", [entry(0, 8, LAZY | PRESENT)], ends=(3, 5, 8))
    file = os.open(images / "pages-3.img", os.O_RDONLY)
    spans = read_spans(images, 1, lambda _: file)
    os.close(file)
    assert [((span.start - START) // PAGE_BYTES, span.size_bytes // PAGE_BYTES) for span in spans] == [
        (0, 3),
        (3, 2),
        (5, 3),
    ]


@pytest.mark.parametrize(
    "entries",
    [
        [entry(3, 2, LAZY | PARENT)],
        [entry(0, 1, LAZY)],
        [entry(4, 2, LAZY | PRESENT), entry(5, 1, LAZY | PRESENT)],
        [PagemapEntry(vaddr=START + 1, nr_pages=1, compat_nr_pages=1, flags=LAZY | PRESENT)],
    ],
    ids=["not below either", "nowhere", "out of order", "not where a page begins"],
)
def test_pages_that_are_nowhere_are_an_error(tmp_path: Path, entries: list[PagemapEntry]) -> None:
    below = write(tmp_path / "below", [entry(0, 4, LAZY | PRESENT)])
    images = write(tmp_path / "a", entries)
    (images / "parent").symlink_to(below)
    with pytest.raises(IntegrityError):
        pages_of(images)
