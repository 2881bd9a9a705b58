"""The pages of a container that was dumped without them: read from memory, named beside CRIU, given as a whole dump."""

from __future__ import annotations

import ctypes
import mmap
import os
import random
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from blake3 import blake3

from migrator.criu.entries import write_entries
from migrator.criu.extents import EXTENT_BYTES, PAGE_BYTES, PRESENT, Run, cut_images
from migrator.criu.frozen_memory import (
    FrozenOffers,
    KeptOffers,
    NamedExtents,
    complete,
    complete_pagemaps,
    find_pages,
    list_pages,
    name_extents,
    offer_images,
)
from migrator.criu.kept_extents import KeptExtents
from migrator.criu.live_memory import LiveMemory, look_at
from migrator.criu.memory_map import PAGEMAP_MARK
from migrator.criu.process_memory import Origin, inner_pid
from migrator.errors import ResourceExhausted, WorkloadFailed
from migrator.gen.criu.images_pb2 import PagemapEntry, PagemapHead
from migrator.storage.chunks import cut_by_content

LAZY = 2
PAGES = 700
PROGRAM = f"""
import mmap, os, random, sys
own = mmap.mmap(-1, {PAGES} * {PAGE_BYTES}, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
shared = mmap.mmap(-1, {PAGES} * {PAGE_BYTES})
opened = os.memfd_create("kept open")
chance = random.Random(5)
for memory in own, shared:
    memory.write(chance.randbytes(len(memory)))
os.write(opened, chance.randbytes(3 * {PAGE_BYTES}))
print(os.fstat(opened).st_ino, flush=True)
for line in sys.stdin:
    own[:{PAGE_BYTES}] = bytes({PAGE_BYTES})
    print("changed", flush=True)
"""
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="memory of others is root's")


class Program:
    """A process that stands still."""

    def __init__(self, process: subprocess.Popen[str]):
        assert process.stdout
        self.process = process
        self.opened = int(process.stdout.readline())
        self.place = Path(f"/proc/{process.pid}")

    @property
    def memories(self) -> list[LiveMemory]:
        """Its memory."""
        return look_at([self.place])

    def change(self) -> None:
        """Let it change its first page."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        self.process.stdout.readline()


@pytest.fixture
def program() -> Iterator[Program]:
    command = [sys.executable, "-c", PROGRAM]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Program(process)
        process.kill()


def name(chunk: bytes | memoryview) -> bytes:
    return blake3(chunk).digest()


def dump(program: Program, directory: Path, *, lazy: bool = True) -> Path:
    """Write what CRIU writes of these: pagemaps, and files of pages unless they are left out."""
    directory.mkdir()
    places = [(memory.pagemap, memory.runs, memory.file) for memory in program.memories]
    opened = Run(0, 3 * PAGE_BYTES)
    places.append((f"pagemap-shmem-{program.opened}.img", (opened,), next(open_as(program))))
    for number, (pagemap, runs, file) in enumerate(places, start=1):
        shared = "shmem" in pagemap
        flags = (0 if lazy and not shared else PRESENT) | (0 if shared else LAZY)
        entries = [PagemapEntry(vaddr=run.address, nr_pages=run.size_bytes // PAGE_BYTES, flags=flags) for run in runs]
        (directory / pagemap).write_bytes(write_entries(PAGEMAP_MARK, [PagemapHead(pages_id=number), *entries]))
        if not lazy:
            with file.open("rb", buffering=0) as memory:
                pages = b"".join(os.pread(memory.fileno(), run.size_bytes, run.address) for run in runs)
            (directory / f"pages-{number}.img").write_bytes(pages)
    (directory / "core-1.img").write_bytes(b"core" * 9000)
    return directory


def open_as(program: Program) -> Iterator[Path]:
    for entry in (program.place / "fd").iterdir():
        if entry.stat().st_ino == program.opened:
            yield entry


def whole(images: Path) -> bytes:
    return b"".join(cut_images(images, cut_by_content))


def offered(images: Path, program: Program, named: NamedExtents, keeper: KeptExtents | None = None) -> list[bytes]:
    """All chunks, each of which is what its name says."""
    chunks = []
    if keeper is not None:
        offers = offer_images(images, list_pages(images), KeptOffers(named, keeper), cut_by_content, name)
    else:
        frozen = FrozenOffers(named, lambda _: False, name)
        offers = offer_images(images, find_pages(images, [program.place]), frozen, cut_by_content, name)
    for chunk, size_bytes, content in offers:
        data = content() if callable(content) else content
        assert (len(data), name(data)) == (size_bytes, chunk)
        chunks.append(data)
    return chunks


def test_what_is_offered_is_the_whole_dump(program: Program, tmp_path: Path) -> None:
    lazy, full = dump(program, tmp_path / "lazy"), dump(program, tmp_path / "full", lazy=False)
    named = name_extents(program.memories, name)
    complete(find_pages(lazy, [program.place]), named, name)
    complete_pagemaps(lazy)
    assert [file.read_bytes() for file in sorted(lazy.glob("pagemap*"))] == [
        file.read_bytes() for file in sorted(full.glob("pagemap*"))
    ]
    chunks = offered(lazy, program, named)
    assert b"".join(chunks) == whole(full)
    assert [name(chunk) for chunk in chunks if len(chunk) == EXTENT_BYTES] == [
        name(chunk) for chunk in cut_images(full, cut_by_content) if len(chunk) == EXTENT_BYTES
    ]


def test_what_was_not_named_beside_is_named_afterwards(program: Program, tmp_path: Path) -> None:
    lazy, full = dump(program, tmp_path / "lazy"), dump(program, tmp_path / "full", lazy=False)
    named = NamedExtents()
    complete(find_pages(lazy, [program.place]), named, name)
    named.save(tmp_path / "names")
    complete_pagemaps(lazy)
    assert b"".join(offered(lazy, program, NamedExtents.load(tmp_path / "names"))) == whole(full)


def test_what_is_kept_outlives_the_program(program: Program, tmp_path: Path) -> None:
    lazy, full = dump(program, tmp_path / "lazy"), dump(program, tmp_path / "full", lazy=False)
    expected = whole(full)
    with KeptExtents(tmp_path / "kept") as ahead:
        name_extents(program.memories, name, ahead)
        ahead.save()
        before = (tmp_path / "kept").stat().st_size
    with KeptExtents(tmp_path / "kept") as keeper:
        named = name_extents(program.memories, name, keeper)
        pages = find_pages(lazy, [program.place])
        complete(pages, named, name, keeper)
        complete_pagemaps(lazy)
        assert (tmp_path / "kept").stat().st_size - before < 64 * EXTENT_BYTES
        program.change()
        assert b"".join(offered(lazy, program, named, keeper)) == expected


def test_what_is_not_known_elsewhere_is_sent_as_it_is_and_named_so(program: Program, tmp_path: Path) -> None:
    lazy = dump(program, tmp_path / "lazy")
    named = name_extents(program.memories, name)
    before = set(named.names[f"pagemap-{inner_pid(program.place)}.img"].values())
    program.change()
    offers = FrozenOffers(named, lambda _: False, name)
    after = list(offer_images(lazy, find_pages(lazy, [program.place]), offers, cut_by_content, name))
    assert all(isinstance(content, bytes) and name(content) == chunk for chunk, _, content in after)
    assert before - {chunk for chunk, _, _ in after}


def test_pages_that_nobody_has_are_lost(program: Program, tmp_path: Path) -> None:
    lazy = dump(program, tmp_path / "lazy")
    (lazy / "pagemap-shmem-1.img").write_bytes((lazy / f"pagemap-shmem-{program.opened}.img").read_bytes())
    with pytest.raises(WorkloadFailed, match="nobody has"):
        find_pages(lazy, [program.place])
    head = PagemapHead(pages_id=77)
    (lazy / "pagemap-shmem-1.img").write_bytes(write_entries(PAGEMAP_MARK, [head]))
    (lazy / "pages-77.img").write_bytes(b"written by CRIU itself")
    assert Origin(lazy / "pages-77.img") in [found.source for found in find_pages(lazy, [program.place])]


def test_pages_that_cannot_be_read_are_lost(program: Program, tmp_path: Path) -> None:
    lazy = dump(program, tmp_path / "lazy")
    own = lazy / f"pagemap-{inner_pid(program.place)}.img"
    entries = [PagemapEntry(vaddr=PAGE_BYTES, nr_pages=1, flags=LAZY)]
    own.write_bytes(write_entries(PAGEMAP_MARK, [PagemapHead(pages_id=1), *entries]))
    with pytest.raises(WorkloadFailed, match="cannot be read"):
        complete(find_pages(lazy, [program.place]), NamedExtents(), name)


def test_memory_that_its_own_process_may_not_read_is_read(tmp_path: Path) -> None:
    hidden = f"""
import ctypes, mmap, sys
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
place = libc.mmap(None, {8 * PAGE_BYTES}, 3, 0x22, -1, 0)
ctypes.memset(place, 7, {8 * PAGE_BYTES})
libc.mprotect(ctypes.c_void_p(place), {8 * PAGE_BYTES}, 0)
print(place, flush=True)
sys.stdin.read()
"""
    with subprocess.Popen([sys.executable, "-c", hidden], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        place = int(process.stdout.readline())
        found = name_extents(
            [LiveMemory("pagemap-1.img", (Run(place, PAGE_BYTES),), Path(f"/proc/{process.pid}/mem"))], name
        )
        process.kill()
    assert list(found.names["pagemap-1.img"].values()) == [name(bytes([7]) * PAGE_BYTES)]


def test_where_code_may_run_is_left_for_later() -> None:
    code = mmap.mmap(-1, PAGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=7)
    code.write(random.Random(1).randbytes(PAGE_BYTES))
    place = ctypes.addressof(ctypes.c_char.from_buffer(code))

    def met(*, executable: bool) -> bool:
        (own, *_) = look_at([Path("/proc/self")], executable=executable)
        return any(run.address <= place < run.end for run in own.runs)

    assert met(executable=True)
    assert not met(executable=False)


def test_a_full_place_is_told(tmp_path: Path) -> None:
    with KeptExtents(tmp_path / "kept") as keeper:
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        usual = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
        try:
            with pytest.raises(ResourceExhausted, match="no place"):
                keeper.keep([b"n" * 32], [memoryview(b"content")])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, usual)
