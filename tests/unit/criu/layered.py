"""Read images that lie over others."""

from __future__ import annotations

from pathlib import Path

from migrator.criu.entries import entry_texts
from migrator.criu.extents import PAGE_BYTES
from migrator.criu.memory_map import PAGEMAP_MARK
from migrator.gen.criu.images_pb2 import PagemapEntry, PagemapHead

PRESENT, PARENT = 4, 1
Pages = dict[int, bytes]


def read_pages(directory: Path, name: str) -> Pages:
    """Read the pages of a process as CRIU does: in order, and in the directory below where it says so."""
    texts = entry_texts(name, (directory / f"pagemap-{name}.img").read_bytes(), PAGEMAP_MARK)
    head = PagemapHead.FromString(next(texts))
    stored = (directory / f"pages-{head.pages_id}.img").read_bytes()
    below = read_pages(directory / "parent", name) if (directory / f"parent/pagemap-{name}.img").exists() else {}
    found: Pages = {}
    for entry in map(PagemapEntry.FromString, texts):
        assert entry.nr_pages == entry.compat_nr_pages
        for number in range(entry.nr_pages):
            address = entry.vaddr + number * PAGE_BYTES
            if entry.flags & PARENT:
                found[address] = below[address]
            else:
                assert entry.flags & PRESENT
                found[address], stored = stored[:PAGE_BYTES], stored[PAGE_BYTES:]
    assert not stored
    return found
