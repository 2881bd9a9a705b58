"""Read the memory of running processes as a dump would find it: a guess, ahead of the freeze.

What comes out is a stream of CRIU's images, a pagemap and a file of pages for each process and each piece of shared
memory, cut as `extents` cuts those of a dump. A page that changes while it is read only makes the guess wrong.
"""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from migrator.criu.entries import write_entries
from migrator.criu.extents import PAGE_BYTES, PRESENT, Cutter, Known, Namer, Offer, Run, cuts_of, join, pieces_of
from migrator.criu.images import END, frame_image
from migrator.criu.memory_map import PAGEMAP_MARK
from migrator.criu.process_memory import Buffer, Origin, Source, inner_pid
from migrator.gen.criu.images_pb2 import PagemapEntry, PagemapHead

READ_BYTES = 1 << 20
SAMPLED = 16
"""One piece of so many is looked at in a sample."""
_ENTRY_BYTES = 8
"""Of /proc/PID/pagemap for each page (the kernel's admin-guide/mm/pagemap.rst)."""
_FLAGS_AT = 7 if sys.byteorder == "little" else 0
"""The byte of an entry with its highest bits: 63 the page is in memory, 62 in swap, 61 of a file, or shared."""
_HELD = bytes(bool(flags & 0xC0) and not flags & 0x20 for flags in range(256))
_HELD_RUNS = re.compile(rb"\x01+")
_SHARED_WITHOUT_FILE = ("/dev/zero (deleted)", "/memfd:")
_SYSTEM_V = "/SYSV"
_NEVER_DUMPED = ("[vvar]", "[vdso]", "[vsyscall]", "[vvar_vclock]")


@dataclass(frozen=True, slots=True)
class LiveMemory:
    """Memory that a dump puts into one file of pages: what is a process's own, or one piece that several share.

    Args:
        pagemap: The name of the image that will tell of it.
        runs: Its pages in the order of their addresses; in shared memory these begin at 0.
        file: What it is read from, by those addresses: /proc/PID/mem, or a mapping in /proc/PID/map_files.
    """

    pagemap: str
    runs: tuple[Run, ...]
    file: Path

    @property
    def size_bytes(self) -> int:
        """How much memory that is."""
        return sum(run.size_bytes for run in self.runs)


@dataclass(frozen=True, slots=True)
class SharedFile:
    """Shared memory as somebody has it mapped or opened."""

    inode: int
    """By which CRIU names it; of System V's memory its id stands there."""
    system_v: bool
    size_bytes: int
    """As far as it can be read so."""
    origin: Origin


def shared_files(process: Path) -> Iterator[SharedFile]:
    """Give the shared memory that a process has, as far as it is no file that others see."""
    for line in (process / "maps").read_text(errors="replace").splitlines():
        span, _, offset, _, inode, *path = line.split(maxsplit=5)
        name = path[0] if path else ""
        start, end = (int(word, 16) for word in span.split("-"))
        if name.startswith(_SHARED_WITHOUT_FILE):
            yield SharedFile(int(inode), False, sys.maxsize, Origin(_mapped_file(process, start, end)))
        elif name.startswith(_SYSTEM_V) and not int(offset, 16):  # its file cannot be read
            yield SharedFile(int(inode), True, end - start, Origin(process / "mem", start))
    for opened in (process / "fd").iterdir():
        with suppress(OSError):
            name = str(opened.readlink())
            if name.startswith(_SHARED_WITHOUT_FILE):
                yield SharedFile(opened.stat().st_ino, False, sys.maxsize, Origin(opened))


def look_at(processes: Iterable[Path], *, executable: bool = True) -> list[LiveMemory]:
    """Find the memory of some processes that a dump would take; one that ends meanwhile has none.

    Args:
        processes: Their directories in /proc.
        executable: Also where code may be run.
    """
    found: dict[str, LiveMemory] = {}
    for process in processes:
        with suppress(OSError, ValueError, LookupError):
            mappings = [mapping for mapping in _mappings(process) if executable or not mapping.executable]
            runs = tuple(join(run for mapping in mappings if not mapping.inode for run in _own_runs(process, mapping)))
            name = f"pagemap-{inner_pid(process)}.img"
            found[name] = LiveMemory(name, runs, process / "mem")
            for mapping in mappings:
                name = f"pagemap-shmem-{mapping.inode}.img"
                if mapping.inode and name not in found:
                    found[name] = LiveMemory(name, tuple(_shared_runs(mapping.file)), mapping.file)
    return [memory for memory in found.values() if memory.runs]


def offer_memory(memories: Iterable[LiveMemory], cut: Cutter, name: Namer, known: Known) -> Iterator[Offer]:
    """Give the images of some memory as the chunks of a tar: pages by their addresses.

    Args:
        memories: As they were looked at.
        cut: For everything but pages.
        name: Gives names.
        known: Says which chunks are elsewhere: their bytes are not given.
    """
    for number, memory in enumerate(memories, start=1):
        pagemap = _pagemap(number, memory.runs)
        for chunk in cut(frame_image(memory.pagemap, len(pagemap), [pagemap])):
            yield name(memoryview(chunk)), len(chunk), chunk
        header = next(frame_image(f"pages-{number}.img", memory.size_bytes, ()))
        yield name(memoryview(header)), len(header), header
        yield from _offer_pages(memory, name, known)
    yield name(memoryview(END)), len(END), END


def share_known(memories: Iterable[LiveMemory], name: Namer, known: Known) -> float:
    """Estimate by a sample how much of some memory is elsewhere already, from 0 to 1."""
    found = looked = 0
    for memory in memories:
        pieces = (piece for run in memory.runs for piece in pieces_of(run, READ_BYTES))
        sample = replace(memory, runs=tuple(islice(pieces, 0, None, SAMPLED)))
        for chunk, size_bytes, content in _offer_pages(sample, name, known):
            del chunk
            looked += size_bytes
            found += size_bytes if content is None else 0
    return found / looked if looked else 1.0


def _offer_pages(memory: LiveMemory, name: Namer, known: Known) -> Iterator[Offer]:
    """Read pages in large pieces into the same buffer; pages that are gone are zeros."""
    buffer, nothing = Buffer(READ_BYTES), bytes(READ_BYTES)
    with ExitStack() as opened:
        source: Source | None = None
        with suppress(OSError):
            source = opened.enter_context(Origin(memory.file).open())
        for piece in (piece for run in memory.runs for piece in pieces_of(run, READ_BYTES)):
            try:
                if source is None:
                    raise ProcessLookupError
                source.fill(buffer, piece.address, piece.size_bytes)
            except OSError:
                buffer.view[: piece.size_bytes] = nothing[: piece.size_bytes]
            for start, end in cuts_of(piece):
                content = buffer.view[start:end]
                found = name(content)
                yield found, end - start, None if known(found) else bytes(content)


@dataclass(frozen=True, slots=True)
class _Mapping:
    """A line of smaps (proc(5))."""

    start: int
    end: int
    file: Path
    inode: int
    """Of shared memory, by which CRIU names it; 0: the mapping is the process's own."""
    executable: bool


def _mappings(process: Path) -> Iterator[_Mapping]:
    """The mappings that hold pages which belong to no file: most have none, and some are huge."""
    current: _Mapping | None = None
    for line in (process / "smaps").read_text(errors="replace").splitlines():
        words = line.split()
        if not words[0].endswith(":"):
            current = _parse_mapping(process, line)
            if current and current.inode:
                yield current
        elif current and not current.inode and words[0] in ("Anonymous:", "Swap:") and words[1] != "0":
            yield current
            current = None  # once is enough


def _parse_mapping(process: Path, line: str) -> _Mapping | None:
    """Read the first line of a mapping; None for one whose pages a dump finds in no memory."""
    span, rights, _, _, inode, *path = line.split(maxsplit=5)
    start, end = (int(word, 16) for word in span.split("-"))
    name, shared = path[0] if path else "", rights.endswith("s")
    if name in _NEVER_DUMPED or (shared and not name.startswith(_SHARED_WITHOUT_FILE)):
        return None
    return _Mapping(start, end, _mapped_file(process, start, end), int(inode) if shared else 0, "x" in rights)


def _mapped_file(process: Path, start: int, end: int) -> Path:
    return process / "map_files" / f"{start:x}-{end:x}"


def _shared_runs(path: Path) -> Iterator[Run]:
    """The pages that a piece of shared memory has, whoever has touched them (lseek(2), SEEK_DATA)."""
    with path.open("rb", buffering=0) as file:
        place, size_bytes = 0, os.fstat(file.fileno()).st_size
        while place < size_bytes:
            try:
                start = os.lseek(file.fileno(), place, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    return
                raise
            place = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            yield Run(start, -(-(place - start) // PAGE_BYTES) * PAGE_BYTES)


def _own_runs(process: Path, mapping: _Mapping) -> Iterator[Run]:
    with (process / "pagemap").open("rb", buffering=0) as file:
        file.seek(mapping.start // PAGE_BYTES * _ENTRY_BYTES)
        flags = _read_all(file.fileno(), (mapping.end - mapping.start) // PAGE_BYTES * _ENTRY_BYTES)
    for found in _HELD_RUNS.finditer(flags[_FLAGS_AT::_ENTRY_BYTES].translate(_HELD)):
        first, stop = found.span()
        yield Run(mapping.start + first * PAGE_BYTES, (stop - first) * PAGE_BYTES)


def _read_all(file: int, size_bytes: int) -> bytes:
    """Read so much, less at the end; one read gives no more than some MiB of a pagemap."""
    found = bytearray()
    while len(found) < size_bytes and (piece := os.read(file, min(size_bytes - len(found), 4 * READ_BYTES))):
        found += piece
    return bytes(found)


def _pagemap(number: int, runs: Iterable[Run]) -> bytes:
    head = PagemapHead(pages_id=number)
    return write_entries(PAGEMAP_MARK, [head, *(_entry(run) for run in runs)])


def _entry(run: Run) -> PagemapEntry:
    pages = run.size_bytes // PAGE_BYTES
    return PagemapEntry(vaddr=run.address, compat_nr_pages=pages, nr_pages=pages, flags=PRESENT)
