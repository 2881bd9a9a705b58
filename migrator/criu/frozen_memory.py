"""The pages of a container that was dumped without them: which there are, where they can be read, what their names are.

CRIU's pagemaps say which pages belong to the dump. While CRIU is still at work most of them are read and named already,
beside it (`name_extents`); what was not met then is read when CRIU is done (`complete`). Nobody runs meanwhile, so both
find the same bytes. Only where code can be run CRIU puts some of its own for moments: that is read afterwards.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Protocol

from migrator.criu.entries import entry_texts, parse_entry, write_entries
from migrator.criu.extents import (
    EXTENT_BYTES,
    PAGE_BYTES,
    PRESENT,
    Cutter,
    Known,
    Namer,
    Offer,
    Run,
    cuts_of,
    join,
    length_of,
    pieces_of,
)
from migrator.criu.images import END, frame_image, pack_image
from migrator.criu.live_memory import LiveMemory, SharedFile, shared_files
from migrator.criu.memory_map import PAGEMAP_MARK, SHARED_FORM
from migrator.criu.process_memory import Buffer, Origin, Source, inner_pid
from migrator.errors import WorkloadFailed
from migrator.gen.criu.images_pb2 import PagemapEntry, PagemapHead

PIECE_BYTES = 1 << 20
"""So much is read at once."""
READERS = 2
_RECORD = struct.Struct("<HQ32s")


Extents = Callable[["FrozenPages"], Iterator[Offer]]
"""Offers the extents of some pages."""


class Keeper(Protocol):
    """Keeps the bytes of extents, if they have to outlive the freeze."""

    def keep(self, names: list[bytes], contents: list[memoryview]) -> None:
        """Keep some extents that lie side by side; those of which it has the bytes already cost nothing."""

    def read(self, name: bytes, size_bytes: int) -> bytes:
        """Return the bytes of an extent."""


@dataclass(frozen=True, slots=True)
class FrozenPages:
    """What would be in one file of pages.

    Args:
        pagemap: The image that tells of them.
        image: The file that they would be in.
        runs: Their addresses, in the order of that file.
        source: Where they are; None if that does not matter any more.
    """

    pagemap: str
    image: str
    runs: tuple[Run, ...]
    source: Origin | None

    @property
    def size_bytes(self) -> int:
        """How long the file would be."""
        return sum(run.size_bytes for run in self.runs)

    def open(self) -> Source:
        """Open where they are."""
        assert self.source is not None
        return self.source.open()


@dataclass(slots=True)
class NamedExtents:
    """The names of extents, by pagemap; in each by address and number of pages, added up: pages begin at multiples."""

    names: dict[str, dict[int, bytes]] = field(default_factory=dict)

    def save(self, file: Path) -> None:
        """Write them down for a later step."""
        images = sorted(self.names)
        head = "\0".join(images).encode()
        records = [struct.pack("<I", len(head)), head]
        for number, image in enumerate(images):
            records += [_RECORD.pack(number, key, name) for key, name in self.names[image].items()]
        file.write_bytes(b"".join(records))

    @classmethod
    def load(cls, file: Path) -> NamedExtents:
        """Read what `save` wrote; nothing if there is no such file."""
        try:
            data = file.read_bytes()
        except FileNotFoundError:
            return cls()
        (length,) = struct.unpack_from("<I", data)
        images = data[4 : 4 + length].decode().split("\0")
        tables: list[dict[int, bytes]] = [{} for _ in images]
        for number, key, name in _RECORD.iter_unpack(data[4 + length :]):
            tables[number][key] = name
        return cls(dict(zip(images, tables, strict=True)))


# ---- while CRIU is at work


def name_extents(memories: Iterable[LiveMemory], name: Namer, keeper: Keeper | None = None) -> NamedExtents:
    """Name the extents of the memory of frozen processes; what cannot be read has none.

    Args:
        memories: As they were looked at.
        name: Gives names.
        keeper: Keeps their bytes.
    """
    found = NamedExtents()
    stretches = []
    for memory in memories:
        table = found.names.setdefault(memory.pagemap, {})
        stretches += [
            _Stretch(Origin(memory.file), piece, table) for run in memory.runs for piece in pieces_of(run, PIECE_BYTES)
        ]
    _read_all(stretches, name, keeper)
    return found


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Something to read at once, and where the names of its extents go."""

    source: Origin
    run: Run
    names: dict[int, bytes]


def _read_all(stretches: list[_Stretch], name: Namer, keeper: Keeper | None) -> list[_Stretch]:
    """Read stretches by several threads; return those that cannot be read."""
    rest, taking, failed = iter(stretches), threading.Lock(), list[_Stretch]()

    def work() -> None:
        buffer = Buffer(PIECE_BYTES)
        sources: dict[Origin, Source] = {}
        with ExitStack() as opened:
            while True:
                with taking:
                    stretch = next(rest, None)
                if stretch is None:
                    return
                try:
                    if stretch.source not in sources:
                        sources[stretch.source] = opened.enter_context(stretch.source.open())
                    sources[stretch.source].fill(buffer, stretch.run.address, stretch.run.size_bytes)
                except OSError:
                    failed.append(stretch)
                    continue
                _name_piece(stretch, buffer.view, name, keeper)

    with ThreadPoolExecutor(READERS) as pool:
        for done in [pool.submit(work) for _ in range(READERS)]:
            done.result()
    return failed


def _name_piece(stretch: _Stretch, view: memoryview, name: Namer, keeper: Keeper | None) -> None:
    contents = [view[start:end] for start, end in cuts_of(stretch.run)]
    names = [name(content) for content in contents]
    address = stretch.run.address
    for content, found in zip(contents, names, strict=True):
        stretch.names[_key(address, len(content))] = found
        address += len(content)
    if keeper is not None:
        keeper.keep(names, contents)


def _key(address: int, size_bytes: int) -> int:
    return address + size_bytes // PAGE_BYTES


# ---- when CRIU is done


def find_pages(images: Path, processes: Iterable[Path]) -> list[FrozenPages]:
    """Find the pages that a dump without pages tells of.

    Args:
        images: The dump.
        processes: The frozen processes, by their directories in /proc.

    Raises:
        WorkloadFailed: `pages_lost`, some can be read nowhere.
        IntegrityError: `bad_images`.
    """
    processes = list(processes)
    by_pid = {f"pagemap-{inner_pid(process)}.img": Origin(process / "mem") for process in processes}
    files = _shared_files(processes)
    return [
        replace(pages, source=by_pid.get(pages.pagemap) or _source_of_shared(images, pages, files))
        for pages in list_pages(images)
    ]


def list_pages(images: Path) -> list[FrozenPages]:
    """List the pages that a dump without pages tells of, wherever they are.

    Raises:
        IntegrityError: `bad_images`.
    """
    found = []
    for pagemap in sorted(images.glob("pagemap-*.img")):
        head, entries = _read_pagemap(pagemap)
        runs = tuple(join(Run(entry.vaddr, length_of(entry)) for entry in entries))
        found.append(FrozenPages(pagemap.name, f"pages-{head.pages_id}.img", runs, None))
    return found


def complete_pagemaps(images: Path) -> None:
    """Let the pagemaps say that all pages are there, as those of a whole dump do."""
    for pagemap in images.glob("pagemap-*.img"):
        head, entries = _read_pagemap(pagemap)
        for entry in entries:
            entry.flags |= PRESENT
        pagemap.write_bytes(write_entries(PAGEMAP_MARK, [head, *entries]))


def complete(pages: Iterable[FrozenPages], named: NamedExtents, name: Namer, keeper: Keeper | None = None) -> None:
    """Name what was not named yet, and keep it.

    Raises:
        WorkloadFailed: `pages_lost`, some cannot be read.
    """
    missing = []
    for found in pages:
        assert found.source is not None
        table = named.names.setdefault(found.pagemap, {})
        for piece in (piece for run in found.runs for piece in pieces_of(run, PIECE_BYTES)):
            address = piece.address
            if not all(_key(address + start, end - start) in table for start, end in cuts_of(piece)):
                missing.append(_Stretch(found.source, piece, table))
    failed = _read_all(missing, name, keeper)
    if failed:
        raise _lost(f"{failed[0].source.path} cannot be read at {failed[0].run.address:#x}")


def offer_images(
    images: Path, pages: Iterable[FrozenPages], extents: Extents, cut: Cutter, name: Namer
) -> Iterator[Offer]:
    """Give the chunks of the tar of a dump, as `extents.cut_images` would cut it if all pages were in its files.

    Args:
        images: The dump.
        pages: What its files of pages would hold.
        extents: Gives their extents.
        cut: For everything but pages.
        name: Gives names.
    """
    held = {found.image: found for found in pages}
    plain: list[str] = []

    def offer_plain() -> Iterator[Offer]:
        for chunk in cut(piece for file in plain for piece in pack_image(images / file)):
            yield name(memoryview(chunk)), len(chunk), chunk
        plain.clear()

    for file in sorted({file.name for file in images.iterdir()} | held.keys()):
        if file not in held:
            plain.append(file)
            continue
        yield from offer_plain()
        header = next(frame_image(file, held[file].size_bytes, ()))
        yield name(memoryview(header)), len(header), header
        yield from extents(held[file])
    yield from offer_plain()
    yield name(memoryview(END)), len(END), END


@dataclass(frozen=True, slots=True)
class KeptOffers:
    """Offers extents of which somebody has kept the bytes.

    Args:
        named: Their names; all of them.
        keeper: Who has the bytes.
    """

    named: NamedExtents
    keeper: Keeper

    def __call__(self, pages: FrozenPages) -> Iterator[Offer]:
        """Offer the extents of some pages."""
        names = self.named.names.get(pages.pagemap, {})
        for address, size_bytes in _extents(pages):
            known = names[_key(address, size_bytes)]
            yield known, size_bytes, partial(self.keeper.read, known, size_bytes)


@dataclass(frozen=True, slots=True)
class FrozenOffers:
    """Offers extents of a memory that is still frozen.

    Those that are known have been named beside CRIU and are not read again: their bytes are elsewhere. All others are
    read, and named, now: CRIU's code ran meanwhile, and the kernel notes for each thread on which processor (rseq(2)).

    Args:
        named: The names of extents.
        known: Says whether the bytes of a name are elsewhere.
        name: Gives names.
    """

    named: NamedExtents
    known: Known
    name: Namer

    def __call__(self, pages: FrozenPages) -> Iterator[Offer]:
        """Offer the extents of some pages.

        Raises:
            WorkloadFailed: `pages_lost`, one cannot be read.
        """
        names, buffer = self.named.names.get(pages.pagemap, {}), Buffer(EXTENT_BYTES)
        with pages.open() as source:
            for address, size_bytes in _extents(pages):
                found = names.get(_key(address, size_bytes))
                if found is not None and self.known(found):
                    yield found, size_bytes, None
                    continue
                content = _read(source, address, size_bytes, buffer)
                yield self.name(memoryview(content)), size_bytes, content


def _read(source: Source, address: int, size_bytes: int, buffer: Buffer) -> bytes:
    try:
        source.fill(buffer, address, size_bytes)
    except OSError as error:
        raise _lost(f"memory cannot be read at {address:#x}: {error}") from error
    return bytes(buffer.view[:size_bytes])


def _extents(pages: FrozenPages) -> Iterator[tuple[int, int]]:
    for run in pages.runs:
        for start, end in cuts_of(run):
            yield run.address + start, end - start


def _lost(why: str) -> WorkloadFailed:
    return WorkloadFailed(why, code="pages_lost", remedy="it needs a dump with all its pages")


def _read_pagemap(pagemap: Path) -> tuple[PagemapHead, list[PagemapEntry]]:
    texts = entry_texts(pagemap.name, pagemap.read_bytes(), PAGEMAP_MARK)
    head = parse_entry(pagemap.name, next(texts, b""), PagemapHead)
    return head, [parse_entry(pagemap.name, text, PagemapEntry) for text in texts]


def _shared_files(processes: Iterable[Path]) -> dict[int, SharedFile]:
    """Shared memory that somebody has mapped or opened, by its number.

    Raises:
        WorkloadFailed: `pages_lost`, some of System V's, which has numbers of its own, has the number of another.
    """
    found: dict[int, SharedFile] = {}
    for process in processes:
        files = []
        with suppress(OSError):  # a process that has ended, and is not yet waited for, has none
            files = list(shared_files(process))
        for file in files:
            known = found.setdefault(file.inode, file)
            if known.system_v is not file.system_v:
                raise _lost(f"two pieces of shared memory have the number {file.inode}")
            if known.size_bytes < file.size_bytes:
                found[file.inode] = file
    return found


def _source_of_shared(images: Path, pages: FrozenPages, files: dict[int, SharedFile]) -> Origin:
    """Where a piece of shared memory can be read: by who has mapped or opened it, or from the file that CRIU wrote."""
    if pages.pagemap.startswith(SHARED_FORM):
        inode = pages.pagemap.removeprefix(SHARED_FORM).removesuffix(".img")
        file = files.get(int(inode)) if inode.isdecimal() else None
        if file is not None and all(run.end <= file.size_bytes for run in pages.runs):
            return file.origin
    written = images / pages.image
    if written.is_file() and not written.is_symlink():
        return Origin(written)
    raise _lost(f"nobody has what {pages.pagemap} tells of")
