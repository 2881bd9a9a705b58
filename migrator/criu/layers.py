"""CRIU's images laid over those of an earlier moment: pages that are as they were then are not written again.

CRIU knows such directories from its own incremental dumps (criu(8), --prev-images-dir): a link `parent` leads from one
to the one below, and a stretch of pages in `pagemap-PID.img` says that it is to be read there. It reads them by their
addresses, so what lies below may be in any order and may have more.
"""

from __future__ import annotations

import io
import os
import struct
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from migrator.criu.entries import IMAGE_LIMIT_BYTES, entry_texts, parse_entry, write_entries
from migrator.criu.extents import IN_PARENT, PAGE_BYTES, PRESENT, Run, extents_of, is_in_file, join, length_of
from migrator.criu.images import no_place, no_such_tar
from migrator.criu.memory_map import PAGEMAP_MARK
from migrator.gen.criu.images_pb2 import PagemapEntry, PagemapHead

NamedChunk = tuple[bytes, int, bytes | None]
"""A chunk of the tar of some images: its name, its length, and its bytes unless the layer below has them."""
PARENT_LINK = "parent"
_PAGEMAP = "pagemap-"
_BLOCK = tarfile.BLOCKSIZE
_RECORD = struct.Struct("<HQ32sHQ")


class CannotLayer(Exception):
    """These images are not cut as they must be to lie over others; unpack them as they are."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a chunk lies on this host."""

    file: Path
    offset: int


@dataclass(slots=True)
class Layer:
    """Images that others may lie over, and which chunk is where in them and below them."""

    directory: Path
    pages: dict[str, dict[int, bytes]] = field(default_factory=dict)
    """For each `pagemap-PID.img`, the chunk at each address."""
    places: dict[bytes, Place] = field(default_factory=dict)

    def read(self, name: bytes, size_bytes: int) -> bytes:
        """Read a chunk."""
        place = self.places[name]
        with place.file.open("rb", buffering=0) as file:
            return os.pread(file.fileno(), size_bytes, place.offset)

    def save(self, file: Path) -> None:
        """Write down what is where; a step that comes later may run in another process."""
        images, files = sorted(self.pages), sorted({str(place.file) for place in self.places.values()})
        numbers = {name: number for number, name in enumerate(files)}
        head = "\0".join(["\1".join(images), "\1".join(files)]).encode()
        records = [struct.pack("<I", len(head)), head]
        for number, image in enumerate(images):
            for address, name in self.pages[image].items():
                place = self.places[name]
                records.append(_RECORD.pack(number, address, name, numbers[str(place.file)], place.offset))
        file.write_bytes(b"".join(records))

    @classmethod
    def load(cls, directory: Path, file: Path) -> Layer:
        """Read what `save` wrote."""
        data = file.read_bytes()
        (length,) = struct.unpack_from("<I", data)
        images, files = (part.split("\1") for part in data[4 : 4 + length].decode().split("\0"))
        paths = [Path(name) for name in files]
        found = cls(directory, {image: {} for image in images if image})
        for image, address, name, number, offset in _RECORD.iter_unpack(data[4 + length :]):
            found.pages[images[image]][address] = name
            found.places[name] = Place(paths[number], offset)
        return found


def unpack_layer(chunks: Iterable[NamedChunk], directory: Path, below: Layer | None) -> Layer:
    """Unpack a stream of tar bytes into a fresh directory that lies over another one.

    What a failure leaves in the directory is the caller's to remove.

    Args:
        chunks: The tar, as `extents.cut_images` cut it.
        directory: Where to; it must not exist.
        below: What it may lie over.

    Raises:
        CannotLayer: They are not cut by extents, or say of pages what no dump of ours says.
        IntegrityError: `bad_images`.
        ResourceExhausted: `no_room`.
    """
    directory.mkdir(parents=True, mode=0o700)
    unpacking = _Unpacking(directory, below)
    try:
        for name, size_bytes, content in chunks:
            unpacking.take(name, size_bytes, content)
        return unpacking.finish()
    except OSError as error:
        raise no_place(directory, error) from error
    finally:
        unpacking.close()


class _Unpacking:
    """A tar on its way into a directory."""

    def __init__(self, directory: Path, below: Layer | None):
        self.layer = Layer(directory, places=dict(below.places) if below else {})
        self._directory = directory
        self._below = below
        self._header = bytearray()
        self._file: BinaryIO | None = None
        self._left = 0
        self._padding = 0
        self._pages: _Pages | None = None
        self._name = ""
        self._pagemaps: dict[str, tuple[Path, _Stretches]] = {}
        """By the image of pages that each tells of."""
        self._uses_parent = False
        self._ended = False

    def take(self, name: bytes, size_bytes: int, content: bytes | None) -> None:
        """Deal with the next chunk."""
        if self._pages is not None and self._left:
            if size_bytes > self._left:
                raise CannotLayer
            self._left -= size_bytes
            self._pages.take(name, size_bytes, content)
            self._end_member()
        else:
            self._consume(memoryview(content if content is not None else self._read_below(name, size_bytes)))

    def finish(self) -> Layer:
        """Say what is where now."""
        if not self._ended or self._left:
            raise no_such_tar("it ends too early")
        if self._uses_parent and self._below is not None:
            target = os.path.relpath(self._below.directory, self._directory)
            (self._directory / PARENT_LINK).symlink_to(target)
        return self.layer

    def close(self) -> None:
        """Close what is open."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _read_below(self, name: bytes, size_bytes: int) -> bytes:
        if self._below is None:
            raise CannotLayer
        return self._below.read(name, size_bytes)

    def _consume(self, data: memoryview) -> None:
        while data and not self._ended:
            if self._left:
                if self._pages is not None:
                    raise CannotLayer
                assert self._file is not None
                self._file.write(data[: self._left])
                data, self._left = data[self._left :], max(0, self._left - len(data))
                self._end_member()
            elif self._padding:
                data, self._padding = data[self._padding :], max(0, self._padding - len(data))
            else:
                wanted = _BLOCK - len(self._header)
                self._header += data[:wanted]
                data = data[wanted:]
                if len(self._header) == _BLOCK:
                    self._begin_member(bytes(self._header))
                    self._header.clear()

    def _begin_member(self, block: bytes) -> None:
        if not any(block):
            self._ended = True
            return
        try:
            member = tarfile.TarInfo.frombuf(block, tarfile.ENCODING, "surrogateescape")
        except tarfile.HeaderError as error:
            raise no_such_tar(str(error)) from error
        if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
            raise CannotLayer  # a long name or a size beyond 8 GiB: the common way knows them
        name = member.name
        if "/" in name or name in ("", ".", "..", PARENT_LINK) or (self._directory / name).exists():
            raise no_such_tar(f"{name[:100]!r} is no name of an image, or stands there twice")
        self._name = name
        self._file = (self._directory / name).open("xb", buffering=0)
        os.fchmod(self._file.fileno(), 0o600)
        self._left, self._padding = member.size, -member.size % _BLOCK
        self._pages = self._pages_in(name, member.size)
        self._end_member()

    def _pages_in(self, name: str, size_bytes: int) -> _Pages | None:
        """Whether a file holds the pages of a process whose stretches are known; the pagemaps came before it."""
        assert isinstance(self._file, io.FileIO)
        told = self._pagemaps.get(name)
        if told is None or told[1].size_bytes != size_bytes:
            return None
        at = self._below.pages.get(told[0].name, {}) if self._below else {}
        return _Pages(*told, self._file, at, self)

    def _end_member(self) -> None:
        if self._left:
            return
        if self._pages is not None:
            self._uses_parent |= self._pages.finish()
            self._pages = None
        self.close()
        if self._name.startswith(_PAGEMAP):
            pagemap = self._directory / self._name
            stretches = _read_stretches(pagemap)
            if stretches is not None:
                self._pagemaps[stretches.image] = pagemap, stretches


@dataclass(frozen=True, slots=True)
class _Stretches:
    """What a pagemap says."""

    image: str
    head: PagemapHead
    entries: tuple[PagemapEntry, ...]

    @property
    def size_bytes(self) -> int:
        return sum(length_of(entry) for entry in self.entries)


class _Pages:
    """The pages of one process on their way: each extent is in the layer below, or written."""

    def __init__(self, pagemap: Path, stretches: _Stretches, file: io.FileIO, at: dict[int, bytes], whole: _Unpacking):
        self._pagemap = pagemap
        self._stretches = stretches
        self._file = file
        self._at = at
        self._whole = whole
        self._mine: dict[int, bytes] = {}
        self._offset = 0
        self._marks: list[tuple[int, bool]] = []
        """Where each extent ends, and whether it is below."""
        self._extents = extents_of(join(Run(entry.vaddr, length_of(entry)) for entry in stretches.entries))

    def take(self, name: bytes, size_bytes: int, content: bytes | None) -> None:
        """Deal with the next extent."""
        extent = next(self._extents, None)
        if extent is None or extent.size_bytes != size_bytes:
            raise CannotLayer
        below = self._at.get(extent.address) == name
        self._marks.append((extent.end, below))
        self._mine[extent.address] = name
        if not below:
            self._write(name, content if content is not None else self._whole._read_below(name, size_bytes))

    def finish(self) -> bool:
        """Write the pagemap anew if it must tell of the layer below; say whether it does."""
        self._whole.layer.pages[self._pagemap.name] = self._mine
        uses_parent = any(below for _, below in self._marks)
        if uses_parent:
            entries = list(_split(self._stretches.entries, self._marks))
            self._pagemap.write_bytes(write_entries(PAGEMAP_MARK, [self._stretches.head, *entries]))
        return uses_parent

    def _write(self, name: bytes, content: bytes) -> None:
        view = memoryview(content)
        while view:
            view = view[self._file.write(view) :]
        self._whole.layer.places[name] = Place(Path(str(self._file.name)), self._offset)
        self._offset += len(content)


def _split(entries: Iterable[PagemapEntry], marks: list[tuple[int, bool]]) -> Iterator[PagemapEntry]:
    """Divide stretches into what is in these images and what is in those below; both go through the same pages."""
    ends = iter(marks)
    end, below = next(ends)
    for entry in entries:
        address, stop = entry.vaddr, entry.vaddr + length_of(entry)
        current: PagemapEntry | None = None
        while address < stop:
            while end <= address:
                end, below = next(ends)
            piece = _piece(entry, address, min(end, stop) - address, below=below)
            address = min(end, stop)
            if current is not None and current.flags == piece.flags:
                _lengthen(current, length_of(piece))
                continue
            if current is not None:
                yield current
            current = piece
        if current is not None:
            yield current


def _piece(entry: PagemapEntry, address: int, size_bytes: int, *, below: bool) -> PagemapEntry:
    piece = PagemapEntry()
    piece.CopyFrom(entry)
    piece.vaddr = address
    flags = entry.flags if entry.HasField("flags") else PRESENT
    piece.flags = flags & ~PRESENT | IN_PARENT if below else flags
    _set_length(piece, size_bytes)
    return piece


def _lengthen(piece: PagemapEntry, size_bytes: int) -> None:
    _set_length(piece, length_of(piece) + size_bytes)


def _set_length(piece: PagemapEntry, size_bytes: int) -> None:
    """Older CRIU knows one field alone, newer writes both."""
    piece.compat_nr_pages = size_bytes // PAGE_BYTES
    if piece.HasField("nr_pages"):
        piece.nr_pages = size_bytes // PAGE_BYTES


def _read_stretches(pagemap: Path) -> _Stretches | None:
    """Read a pagemap; None if not all that it tells of is in its file of pages."""
    if pagemap.stat().st_size > IMAGE_LIMIT_BYTES:
        return None
    texts = entry_texts(pagemap.name, pagemap.read_bytes(), PAGEMAP_MARK)
    first = next(texts, None)
    if first is None:
        return None
    head = parse_entry(pagemap.name, first, PagemapHead)
    entries = tuple(parse_entry(pagemap.name, text, PagemapEntry) for text in texts)
    if not all(is_in_file(entry) for entry in entries):
        return None
    return _Stretches(f"pages-{head.pages_id}.img", head, entries)
