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
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from migrator.criu.entries import IMAGE_LIMIT_BYTES, entry_texts, parse_entry, write_entries
from migrator.criu.extents import EXTENT_BYTES, IN_PARENT, PAGE_BYTES, PRESENT, Run, is_in_file, join, length_of
from migrator.criu.images import no_place, no_such_tar
from migrator.criu.memory_map import PAGEMAP_MARK
from migrator.gen.criu.images_pb2 import PagemapEntry, PagemapHead

Pieces = tuple[Sequence[bytes], Sequence[int], Mapping[bytes, bytes], int, bytes | None]
"""Chunks of the tar of some images, in order: their names, their lengths, the bytes of those that the layer below has
not, how many these are, and a name for all of them together, if they have one."""
PARENT_LINK = "parent"
_PAGEMAP = "pagemap-"
_BLOCK = tarfile.BLOCKSIZE
_RECORD = struct.Struct("<HQ32sQ")
FILES = 1 << 20
"""There are fewer files of pages."""


class CannotLayer(Exception):
    """These images are not cut as they must be to lie over others; unpack them as they are."""


@dataclass(slots=True)
class Extents:
    """What is at which addresses of a process: there are many, so they are packed."""

    addresses: array[int] = field(default_factory=lambda: array("Q"))
    names: list[bytes] = field(default_factory=list)


@dataclass(slots=True)
class Layer:
    """Images that others may lie over, and which chunk is where in them and below them."""

    directory: Path
    pages: dict[str, Extents] = field(default_factory=dict)
    """For each `pagemap-PID.img`."""
    files: list[str] = field(default_factory=list)
    places: dict[bytes, int] = field(default_factory=dict)
    """For each chunk where it begins in its file, times FILES, and the number of the file."""
    groups: set[bytes] = field(default_factory=set)
    """Names of pieces of which all extents are in `places`. Not written down: who reads it looks at each chunk."""

    def read(self, name: bytes, size_bytes: int) -> bytes:
        """Read a chunk."""
        offset, number = divmod(self.places[name], FILES)
        with Path(self.files[number]).open("rb", buffering=0) as file:
            return os.pread(file.fileno(), size_bytes, offset)

    def save(self, file: Path) -> None:
        """Write down what is where; a step that comes later may run in another process."""
        images = sorted(self.pages)
        head = "\0".join(["\1".join(images), "\1".join(self.files)]).encode()
        records = [struct.pack("<I", len(head)), head]
        for number, image in enumerate(images):
            extents = self.pages[image]
            records += [
                _RECORD.pack(number, address, name, self.places[name])
                for address, name in zip(extents.addresses, extents.names, strict=True)
            ]
        file.write_bytes(b"".join(records))

    @classmethod
    def load(cls, directory: Path, file: Path) -> Layer:
        """Read what `save` wrote."""
        data = file.read_bytes()
        (length,) = struct.unpack_from("<I", data)
        images, files = (part.split("\1") for part in data[4 : 4 + length].decode().split("\0"))
        found = cls(directory, {image: Extents() for image in images if image}, [name for name in files if name])
        for image, address, name, place in _RECORD.iter_unpack(memoryview(data)[4 + length :]):
            extents = found.pages[images[image]]
            extents.addresses.append(address)
            extents.names.append(name)
            found.places[name] = place
        return found


def unpack_layer(pieces: Iterable[Pieces], directory: Path, below: Layer | None) -> Layer:
    """Unpack a stream of tar bytes into a fresh directory that lies over another one.

    What a failure leaves in the directory is the caller's to remove.

    Args:
        pieces: The tar, as `extents.cut_images` cut it, some chunks at a time.
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
        for some in pieces:
            unpacking.take(some)
        return unpacking.finish()
    except OSError as error:
        raise no_place(directory, error) from error
    finally:
        unpacking.close()


class _Unpacking:
    """A tar on its way into a directory."""

    def __init__(self, directory: Path, below: Layer | None):
        self.layer = Layer(directory)
        if below is not None:
            self.layer.files, self.layer.places = list(below.files), dict(below.places)
            self.layer.groups = set(below.groups)
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

    def take(self, pieces: Pieces) -> None:
        """Deal with the next chunks."""
        names, sizes, contents, _, group = pieces
        place = 0
        only_pages = True
        while place < len(names):
            if self._pages is not None and self._left:
                count = self._pages.take(names, sizes, contents, place)
                self._left = self._pages.left_bytes
                place += count
                self._end_member()
            else:
                only_pages = False
                content = contents.get(names[place])
                content = content if content is not None else self.read_below(names[place], sizes[place])
                self._consume(memoryview(content))
                place += 1
        if group is not None and only_pages:
            self.layer.groups.add(group)

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

    def read_below(self, name: bytes, size_bytes: int) -> bytes:
        """Read a chunk that lies below."""
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
        below = self._below.pages.get(told[0].name) if self._below else None
        return _Pages(*told, self._file, below or Extents(), self)

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

    def __init__(self, pagemap: Path, stretches: _Stretches, file: io.FileIO, at: Extents, whole: _Unpacking):
        self._pagemap = pagemap
        self._stretches = stretches
        self._file = file
        self._whole = whole
        runs = join(Run(entry.vaddr, length_of(entry)) for entry in stretches.entries)
        self._mine, self._sizes = Extents(), list[int]()
        for run in runs:
            _append_extents(run, self._mine.addresses, self._sizes)
        self._below = _names_at(self._mine.addresses, at)
        self.left_bytes = stretches.size_bytes
        self._offset = 0
        self._number = len(whole.layer.files)
        whole.layer.files.append(str(file.name))
        self._marks: list[tuple[int, bool]] = []
        """Where extents that are all below, or all not, end."""

    def take(self, names: Sequence[bytes], sizes: Sequence[int], contents: Mapping[bytes, bytes], start: int) -> int:
        """Deal with the next extents, and return how many there were among the chunks from `start` on."""
        first = len(self._mine.names)
        count = min(len(names) - start, len(self._sizes) - first)
        names, sizes = names[start : start + count], sizes[start : start + count]
        if not count or sizes != self._sizes[first : first + count]:
            raise CannotLayer
        if names == self._below[first : first + count]:
            self._mark(first + count - 1, below=True)
        else:
            for number, name in enumerate(names):
                below = self._below[first + number] == name
                self._mark(first + number, below=below)
                if not below:
                    self._write(name, contents, sizes[number])
        self._mine.names += names
        self.left_bytes -= sum(sizes)
        return count

    def finish(self) -> bool:
        """Write the pagemap anew if it must tell of the layer below; say whether it does."""
        self._whole.layer.pages[self._pagemap.name] = self._mine
        uses_parent = any(below for _, below in self._marks)
        if uses_parent:
            entries = list(_split(self._stretches.entries, self._marks))
            self._pagemap.write_bytes(write_entries(PAGEMAP_MARK, [self._stretches.head, *entries]))
        return uses_parent

    def _mark(self, number: int, *, below: bool) -> None:
        if self._marks and self._marks[-1][1] is below:
            self._marks.pop()
        self._marks.append((self._mine.addresses[number] + self._sizes[number], below))

    def _write(self, name: bytes, contents: Mapping[bytes, bytes], size_bytes: int) -> None:
        content = contents.get(name)
        if content is None:
            content = self._whole.read_below(name, size_bytes)
        view = memoryview(content)
        while view:
            view = view[self._file.write(view) :]
        self._whole.layer.places[name] = FILES * self._offset + self._number
        self._offset += len(content)


def _append_extents(run: Run, addresses: array[int], sizes: list[int]) -> None:
    """Cut a run as `extents.extents_of` does; a long one in no time."""
    border = run.address - run.address % EXTENT_BYTES + EXTENT_BYTES
    starts = [run.address, *range(border, run.end, EXTENT_BYTES)]
    addresses.extend(starts)
    sizes += [EXTENT_BYTES] * len(starts)
    sizes[-1] = run.end - starts[-1]
    if len(starts) > 1:
        sizes[-len(starts)] = border - run.address


def _names_at(addresses: array[int], below: Extents) -> list[bytes | None]:
    """What lies below at some addresses; mostly they are the same as before."""
    if addresses == below.addresses:
        return list(below.names)
    known = dict(zip(below.addresses, below.names, strict=True))
    return [known.get(address) for address in addresses]


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
