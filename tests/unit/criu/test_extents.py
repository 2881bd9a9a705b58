"""Where CRIU's images are cut: pages by their addresses, so that neighbours may come and go."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest

from migrator.criu.extents import EXTENT_BYTES, PAGE_BYTES, cut_images
from migrator.criu.images import pack_images, size_packed
from migrator.gen.criu.images_pb2 import PagemapEntry, PagemapHead
from migrator.storage.chunks import cut_by_content

PRESENT, PARENT = 4, 1
START = 0x7F0000003000


def some_pages(count: int, seed: int = 1) -> dict[int, bytes]:
    chance = random.Random(seed)
    return {START + number * PAGE_BYTES: chance.randbytes(PAGE_BYTES) for number in range(count)}


def write_images(directory: Path, pages: dict[int, bytes], number: int = 1, *, new: bool = True) -> Path:
    """Write pages as CRIU does: runs of neighbours in the pagemap, the pages one after the other."""
    directory.mkdir(exist_ok=True)
    entries = [PagemapHead(pages_id=number).SerializeToString()]
    runs: list[list[int]] = []
    for address in sorted(pages):
        if runs and runs[-1][0] + runs[-1][1] * PAGE_BYTES == address:
            runs[-1][1] += 1
        else:
            runs.append([address, 1])
    for address, count in runs:
        told = {"nr_pages": count, "flags": PRESENT} if new else {"compat_nr_pages": count}
        entries.append(PagemapEntry(vaddr=address, **told).SerializeToString())
    entries.append(PagemapEntry(vaddr=1 << 40, nr_pages=7, in_parent=True, flags=PARENT).SerializeToString())
    text = b"".join(struct.pack("<I", len(entry)) + entry for entry in entries)
    (directory / f"pagemap-{number}.img").write_bytes(b"magic+ok" + text)
    (directory / f"pages-{number}.img").write_bytes(b"".join(pages[address] for address in sorted(pages)))
    (directory / "inventory.img").write_bytes(b"inventory")
    (directory / "core-1.img").write_bytes(random.Random(7).randbytes(5000))
    return directory


def chunks_of(directory: Path) -> list[bytes]:
    return list(cut_images(directory, cut_by_content))


@pytest.mark.parametrize("new", [True, False], ids=["criu-4", "criu-3"])
def test_the_bytes_are_those_of_the_tar(tmp_path: Path, new: bool) -> None:
    directory = write_images(tmp_path / "images", some_pages(300), new=new)
    write_images(directory, some_pages(50, 2), 12, new=new)
    whole = b"".join(pack_images(directory))
    chunks = chunks_of(directory)
    assert b"".join(chunks) == whole
    assert size_packed(directory) == len(whole)
    assert all(chunks)
    assert len(chunks) > 45


@pytest.mark.parametrize("change", ["grown below", "a page left", "a page came", "one changed"])
def test_only_extents_that_changed_are_new(tmp_path: Path, change: str) -> None:
    pages = some_pages(320)
    before = set(chunks_of(write_images(tmp_path / "before", pages)))
    after = dict(pages)
    if change == "grown below":
        after |= {START - number * PAGE_BYTES: bytes([number]) * PAGE_BYTES for number in range(1, 4)}
    elif change == "a page left":
        del after[START + 100 * PAGE_BYTES]
    elif change == "a page came":
        after[START + 400 * PAGE_BYTES] = b"new " * 1024
    else:
        after[START + 9 * PAGE_BYTES] = b"changed " * 512
    new = [chunk for chunk in chunks_of(write_images(tmp_path / "after", after)) if chunk not in before]
    assert sum(len(chunk) for chunk in new) <= EXTENT_BYTES + 20_000  # an extent, and the small images


@pytest.mark.parametrize(
    "damage", [b"", b"short", b"magic+ok\xff\xff\xff\xff", b"magic+ok" + struct.pack("<I", 2) + b"zz"]
)
def test_a_pagemap_that_cannot_be_read_costs_nothing_but_room(tmp_path: Path, damage: bytes) -> None:
    directory = write_images(tmp_path / "images", some_pages(100))
    (directory / "pagemap-1.img").write_bytes(damage)
    assert b"".join(chunks_of(directory)) == b"".join(pack_images(directory))


def test_runs_that_do_not_fit_their_file(tmp_path: Path) -> None:
    directory = write_images(tmp_path / "images", some_pages(100))
    pages = directory / "pages-1.img"
    for content in (pages.read_bytes()[:-PAGE_BYTES], pages.read_bytes() + b"more", b""):
        pages.write_bytes(content)
        assert b"".join(chunks_of(directory)) == b"".join(pack_images(directory))
