"""Images over those of an earlier moment: read as CRIU reads them, they are the images that were dumped."""

from __future__ import annotations

import random
from collections.abc import Container, Iterable, Iterator
from itertools import islice
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from migrator.criu.entries import write_entries
from migrator.criu.extents import PAGE_BYTES, cut_images
from migrator.criu.images import END, frame_image
from migrator.criu.layers import CannotLayer, Layer, Pieces, unpack_layer
from migrator.criu.memory_map import PAGEMAP_MARK
from migrator.errors import IntegrityError
from migrator.gen.criu.images_pb2 import PagemapEntry, PagemapHead
from migrator.storage.chunks import cut_by_content
from tests.unit.criu.layered import Pages, read_pages

START = 0x7F0000003000
PRESENT, LAZY = 4, 2


def write_images(directory: Path, processes: dict[str, Pages], *, flags: int = PRESENT | LAZY) -> Path:
    """Write pages as CRIU 4 does, and one more image."""
    directory.mkdir()
    for number, (name, pages) in enumerate(processes.items(), start=1):
        entries: list[PagemapEntry] = []
        for address in sorted(pages):
            last = entries[-1] if entries else None
            if last and last.vaddr + last.nr_pages * PAGE_BYTES == address:
                last.nr_pages += 1
                last.compat_nr_pages += 1
            else:
                entries.append(PagemapEntry(vaddr=address, compat_nr_pages=1, nr_pages=1, flags=flags))
        told = write_entries(PAGEMAP_MARK, [PagemapHead(pages_id=number), *entries])
        (directory / f"pagemap-{name}.img").write_bytes(told)
        (directory / f"pages-{number}.img").write_bytes(b"".join(pages[address] for address in sorted(pages)))
    (directory / "core-1.img").write_bytes(random.Random(7).randbytes(5000))
    return directory


NamedChunk = tuple[bytes, int, bytes | None]


def named(directory: Path, known: Container[bytes] = ()) -> Iterator[NamedChunk]:
    for chunk in cut_images(directory, cut_by_content):
        name = blake3(chunk).digest()
        yield name, len(chunk), None if name in known else chunk


def batched(chunks: Iterable[NamedChunk], count: int) -> Iterator[Pieces]:
    rest = iter(chunks)
    while some := list(islice(rest, count)):
        contents = {name: content for name, _, content in some if content is not None}
        names, sizes = [name for name, _, _ in some], [size for _, size, _ in some]
        group = blake3(b"".join(names)).digest()
        yield names, sizes, contents, sum(map(len, contents.values())), group


def some_pages(count: int, seed: int = 1) -> Pages:
    chance = random.Random(seed)
    return {START + number * PAGE_BYTES: chance.randbytes(PAGE_BYTES) for number in range(count)}


def lay(tmp_path: Path, name: str, images: Path, below: Layer | None) -> Layer:
    layer = unpack_layer(batched(named(images, below.places if below else ()), 7), tmp_path / name, below)
    layer.save(tmp_path / f"{name}.layer")
    loaded = Layer.load(layer.directory, tmp_path / f"{name}.layer")
    used = {name for extents in layer.pages.values() for name in extents.names}
    assert loaded == Layer(layer.directory, layer.pages, layer.files, {name: layer.places[name] for name in used})
    return layer if len(used) % 2 else loaded


def test_without_anything_below_they_are_the_images(tmp_path: Path) -> None:
    images = write_images(tmp_path / "images", {"1": some_pages(40), "shmem-7": some_pages(9, 2)})
    layer = lay(tmp_path, "first", images, None)
    assert {file.name: file.read_bytes() for file in layer.directory.iterdir()} == {
        file.name: file.read_bytes() for file in images.iterdir()
    }


def test_only_what_changed_is_written(tmp_path: Path) -> None:
    before, after = some_pages(64), some_pages(64)
    after[START + 20 * PAGE_BYTES] = b"x" * PAGE_BYTES
    first = lay(tmp_path, "first", write_images(tmp_path / "a", {"1": before}), None)
    second = lay(tmp_path, "second", write_images(tmp_path / "b", {"1": after}), first)
    assert (second.directory / "pages-1.img").stat().st_size == 8 * PAGE_BYTES
    assert read_pages(second.directory, "1") == after
    assert (second.directory / "core-1.img").read_bytes() == (tmp_path / "b/core-1.img").read_bytes()


def test_without_a_change_nothing_is_written_and_what_lies_below_may_lie_over_something_itself(tmp_path: Path) -> None:
    pages, layer = some_pages(100), None
    for number in range(3):
        layer = lay(tmp_path, f"layer-{number}", write_images(tmp_path / f"images-{number}", {"1": pages}), layer)
    assert layer is not None
    assert (layer.directory / "pages-1.img").stat().st_size == 0
    assert read_pages(layer.directory, "1") == pages


CHANGES = st.lists(
    st.tuples(st.sampled_from(["change", "drop", "add", "move"]), st.integers(0, 119), st.integers(0, 250)), max_size=30
)


@settings(deadline=None)
@given(CHANGES, st.booleans())
def test_whatever_changes_the_pages_are_those_that_were_dumped(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[str, int, int]], old: bool
) -> None:
    tmp_path = tmp_path_factory.mktemp("layers")
    before, after = some_pages(120), some_pages(120)
    for what, number, other in changes:
        address = START + number * PAGE_BYTES
        if what == "drop":
            after.pop(address, None)
        elif what == "move" and address in after:
            after[START + other * PAGE_BYTES] = after.pop(address)
        else:
            after[START + (number if what == "change" else other) * PAGE_BYTES] = bytes([other]) * PAGE_BYTES
    first = lay(tmp_path, "first", write_images(tmp_path / "a", {"1": before, "9": some_pages(30, 3)}), None)
    flags = PRESENT if old else PRESENT | LAZY
    images = write_images(tmp_path / "b", {"1": after, "12": some_pages(30, 3)}, flags=flags)
    second = lay(tmp_path, "second", images, first)
    assert read_pages(second.directory, "1") == after
    assert read_pages(second.directory, "12") == some_pages(30, 3)


def test_pages_that_are_not_cut_by_their_addresses_are_left_to_others(tmp_path: Path) -> None:
    images = write_images(tmp_path / "images", {"1": some_pages(40)})
    whole = b"".join(chunk for _, _, chunk in named(images) if chunk)
    pieces = [
        (b"%32d" % start, len(whole[start : start + 7000]), whole[start : start + 7000])
        for start in range(0, len(whole), 7000)
    ]
    with pytest.raises(CannotLayer):
        unpack_layer(batched(pieces, 3), tmp_path / "out", None)


@pytest.mark.parametrize("name", ["../x", "parent", "."])
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    data = b"".join([*frame_image(name, 3, [b"abc"]), END])
    with pytest.raises(IntegrityError):
        unpack_layer(batched([(bytes(32), len(data), data)], 1), tmp_path / "out", None)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_stream_that_ends_early_is_refused(tmp_path: Path) -> None:
    images = write_images(tmp_path / "images", {"1": some_pages(40)})
    chunks = list(named(images))
    for count in range(len(chunks)):
        with pytest.raises(IntegrityError):
            unpack_layer(batched(chunks[:count], 5), tmp_path / f"out-{count}", None)
