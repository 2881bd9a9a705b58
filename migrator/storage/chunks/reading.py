"""Read parts that are stored as chunks: whole, in order and in bounded memory, or just some of their bytes."""

from __future__ import annotations

import io
import threading
from bisect import bisect_right
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple, TypeVar

from migrator.errors import IntegrityError, MigratorError, NotFound
from migrator.storage import layout
from migrator.storage.chunks.coding import ChunkCoding, chunk_damaged
from migrator.storage.chunks.format import ListedChunk, read_list
from migrator.storage.chunks.locations import Location, Locations
from migrator.storage.chunks.pools import Pools
from migrator.storage.chunks.recipes import ChunkList, Recipe, bad_recipe
from migrator.storage.store import ObjectStore

WINDOW_BYTES = 16 << 20
"""So much of a part is fetched together: what lies side by side in a pack comes by one request."""
GAP_BYTES = 64 << 10
"""So much that nobody wants is read along rather than asking twice."""
PARALLEL = 4
LISTS_TOGETHER = 512
CHUNKS_REMEMBERED = 1 << 18
"""The lists of so many chunks are remembered: what comes within a freeze has most of its lists from before."""
T = TypeVar("T")


class Chunks(NamedTuple):
    """Chunks of a part that follow each other."""

    names: Sequence[bytes]
    sizes: Sequence[int]
    contents: Mapping[bytes, bytes]
    """By name, at least of those that the caller does not have."""
    fetched_bytes: int
    """What of them was fetched, each as often as it is needed."""
    whole_list: bytes | None
    """The name of the list, if they are all of one."""


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Chunks of one pack that are read by one request."""

    pack: str
    start: int
    end: int
    locations: tuple[Location, ...]


class ChunkReader:
    """Reads chunks, each of them verified.

    Args:
        objects: The store.
        coding: How chunks are named and stored.
        locations: Where they lie; `refresh` brings it up to date.
        refresh: Called when a chunk is not where it was.
        pools: Makes the threads that fetch.
    """

    def __init__(
        self,
        objects: ObjectStore,
        coding: ChunkCoding,
        locations: Locations,
        refresh: Callable[[], None],
        pools: Pools = ThreadPoolExecutor,
    ):
        self._objects = objects
        self._coding = coding
        self._locations = locations
        self._refresh = refresh
        self._pools = pools
        self._lists = _KeptLists()

    def over(self, objects: ObjectStore) -> ChunkReader:
        """Return the same, reading through another face of the same store."""
        other = copy(self)
        other._objects = objects
        return other

    def read(self, recipe: Recipe) -> Iterator[bytes]:
        """Give the bytes of a part in order, chunk by chunk; closing the iterator ends it.

        Raises:
            IntegrityError: `chunk_missing`, `chunk_damaged` or `bad_recipe`.
        """
        for chunks in self.read_unless_known(recipe, frozenset()):
            for name in chunks.names:
                yield chunks.contents[name]

    def read_unless_known(
        self, recipe: Recipe, known: Container[bytes], known_lists: Container[bytes] = frozenset()
    ) -> Iterator[Chunks]:
        """Give the chunks of a part in order, some at a time, without the bytes of those that the caller has.

        Args:
            recipe: The part.
            known: The names of chunks that are not fetched.
            known_lists: The names of lists of which all chunks are known: they are not looked through.
        """
        with self._pools(PARALLEL) as pool:
            ahead: list[_Window] = []
            try:
                for some in _windows(self._stretches_of(recipe.lists), known, known_lists):
                    ahead.append(_Window(self, pool, some))
                    if len(ahead) > 1:
                        yield from ahead.pop(0).in_order()
                while ahead:
                    yield from ahead.pop(0).in_order()
            finally:
                for window in ahead:
                    window.cancel()

    def read_range(self, recipe: Recipe, offset: int, length: int) -> bytes:
        """Read some bytes of a part; the chunks that hold them are verified, the part as a whole is not."""
        end = min(offset + length, recipe.size_bytes)
        if offset >= end:
            return b""
        lists, start = _overlapping([(item, item.covers_bytes) for item in recipe.lists], 0, offset, end)
        listed = [(chunk, chunk.size_bytes) for chunk in self._listed(lists)]
        chunks, start = _overlapping(listed, start, offset, end)
        found = self.fetch(chunks)
        data = b"".join(found[chunk.name] for chunk in chunks)
        return data[offset - start : end - start]

    def open(self, recipe: Recipe) -> io.BufferedReader:
        """Open a part as a file that can be read from anywhere."""
        return io.BufferedReader(_PartFile(self, recipe), buffer_size=1 << 20)

    def names(self, recipe: Recipe) -> Iterator[bytes]:
        """Give the name of every chunk that a part needs, its lists first, some perhaps more than once."""
        yield from (item.name for item in recipe.lists)
        yield from (chunk.name for chunk in self._listed(recipe.lists))

    def fetch(self, chunks: Iterable[ListedChunk]) -> dict[bytes, bytes]:
        """Read some chunks by name."""
        wanted = list(chunks)
        with self._pools(PARALLEL) as pool:
            return _Window(self, pool, [_Wanted((), (), wanted, None)]).by_name()

    def _listed(self, lists: Iterable[ChunkList]) -> Iterator[ListedChunk]:
        for found, _ in self._stretches_of(lists):
            yield from map(ListedChunk, found.names, found.sizes)

    def _stretches_of(self, lists: Iterable[ChunkList]) -> Iterator[tuple[_List, bytes]]:
        """Read lists, many at a time."""
        waiting = list(lists)
        for start in range(0, len(waiting), LISTS_TOGETHER):
            some = waiting[start : start + LISTS_TOGETHER]
            found = self._read_lists(some)
            for item in some:
                if found[item.name].covers_bytes != item.covers_bytes:
                    raise bad_recipe("a list covers another stretch than it should")
                yield found[item.name], item.name

    def _read_lists(self, lists: list[ChunkList]) -> dict[bytes, _List]:
        found = self._lists.of(item.name for item in lists)
        missing = {item.name for item in lists} - found.keys()
        if missing:
            places = self.locate(missing)
            fetched = self.fetch(ListedChunk(name, place.chunk.size_bytes) for name, place in places.items())
            read = {name: _List.of(data) for name, data in fetched.items()}
            self._lists.keep(read)
            found |= read
        return found

    def locate(self, names: set[bytes], without: frozenset[str] = frozenset()) -> dict[bytes, Location]:
        """Say where chunks lie.

        Args:
            names: The chunks.
            without: Packs that do not count.

        Raises:
            IntegrityError: `chunk_missing`.
        """
        found = self._locations.find(names, without)
        if len(found) < len(names):
            self._refresh()
            found = self._locations.find(names, without)
        missing = names - found.keys()
        if missing:
            raise _missing(next(iter(missing)), self._objects.location)
        return found

    def read_stretch(self, stretch: _Stretch) -> dict[bytes, bytes]:
        """Read chunks that lie near each other."""
        data = memoryview(self._read_bytes(stretch))
        found: dict[bytes, bytes] = {}
        for place in stretch.locations:
            chunk, start = place.chunk, place.offset - stretch.start
            stored = bytes(data[start : start + chunk.stored_bytes])
            found[chunk.name] = self._coding.decode(chunk.name, chunk.codec, stored, chunk.size_bytes)
        return found

    def _read_bytes(self, stretch: _Stretch) -> bytes:
        length = stretch.end - stretch.start
        return self._objects.get_range(layout.pack_key(stretch.pack), stretch.start, length)

    def read_elsewhere(self, stretch: _Stretch, error: MigratorError) -> dict[bytes, bytes]:
        """Read the chunks of a stretch from other packs, if others have them: prune may have moved them, or made room.

        Raises:
            MigratorError: `error`, there is no other.
        """
        self._refresh()
        names = {place.chunk.name for place in stretch.locations}
        others = self._locations.find(names, without=frozenset({stretch.pack}))
        if len(others) < len(names):
            raise error
        found: dict[bytes, bytes] = {}
        for other in _stretches(others.values()):
            found |= self.read_stretch(other)
        return found


class _List(NamedTuple):
    """What a list says."""

    names: list[bytes]
    sizes: list[int]
    covers_bytes: int

    @classmethod
    def of(cls, data: bytes) -> _List:
        names, sizes = read_list(data)
        return cls(names, sizes, sum(sizes))


class _Wanted(NamedTuple):
    """Chunks that follow each other, and which of them are to be fetched."""

    names: Sequence[bytes]
    sizes: Sequence[int]
    wanted: list[ListedChunk]
    whole_list: bytes | None


class _Window:
    """Chunks of a part that are fetched together."""

    def __init__(self, reader: ChunkReader, pool: Executor, parts: list[_Wanted]):
        self._reader = reader
        self._parts = parts
        wanted = [chunk for part in parts for chunk in part.wanted]
        found = reader.locate({chunk.name for chunk in wanted}) if wanted else {}
        for chunk in wanted:
            if found[chunk.name].chunk.size_bytes != chunk.size_bytes:
                raise chunk_damaged(chunk.name, "its list tells another length")
        self._fetching: list[tuple[_Stretch, Future[dict[bytes, bytes]]]] = [
            (stretch, pool.submit(reader.read_stretch, stretch)) for stretch in _stretches(found.values())
        ]

    def by_name(self) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        for stretch, fetched in self._fetching:
            try:
                found |= fetched.result()
            except (IntegrityError, NotFound) as error:
                found |= self._reader.read_elsewhere(stretch, _explain(stretch, error))
        return found

    def in_order(self) -> Iterator[Chunks]:
        found = self.by_name()
        self._fetching.clear()
        for names, sizes, wanted, whole_list in self._parts:
            yield Chunks(names, sizes, found, sum(chunk.size_bytes for chunk in wanted), whole_list)

    def cancel(self) -> None:
        for _, fetched in self._fetching:
            fetched.cancel()


class _KeptLists:
    """Lists that were read, and verified, lately. May be used by several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lists: dict[bytes, _List] = {}
        self._chunks = 0

    def of(self, names: Iterable[bytes]) -> dict[bytes, _List]:
        with self._lock:
            return {name: self._lists[name] for name in names if name in self._lists}

    def keep(self, lists: Mapping[bytes, _List]) -> None:
        with self._lock:
            for name, found in lists.items():
                if name not in self._lists:
                    self._lists[name] = found
                    self._chunks += len(found.names)
            while self._chunks > CHUNKS_REMEMBERED:
                self._chunks -= len(self._lists.pop(next(iter(self._lists))).names)


class _PartFile(io.RawIOBase):
    """A part as a file."""

    def __init__(self, reader: ChunkReader, recipe: Recipe):
        self._reader = reader
        self._recipe = recipe
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._recipe.size_bytes}[whence]
        self._place = max(0, base + offset)
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._reader.read_range(self._recipe, self._place, len(buffer))
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)


def _windows(
    lists: Iterable[tuple[_List, bytes]], known: Container[bytes], known_lists: Container[bytes]
) -> Iterator[list[_Wanted]]:
    """Put together what is fetched together; only a list of which much is wanted is torn apart."""
    window: list[_Wanted] = []
    held_bytes = 0
    for listed, name in lists:
        for piece, piece_bytes in _pieces(listed, name, known, known_lists):
            if window and held_bytes + piece_bytes > WINDOW_BYTES:
                yield window
                window, held_bytes = [], 0
            window.append(piece)
            held_bytes += piece_bytes
    if window:
        yield window


def _pieces(
    listed: _List, name: bytes, known: Container[bytes], known_lists: Container[bytes]
) -> Iterator[tuple[_Wanted, int]]:
    """Say what of a list is wanted, and how much that is."""
    if name in known_lists:
        yield _Wanted(listed.names, listed.sizes, [], name), 0
        return
    chunks = list(map(ListedChunk, listed.names, listed.sizes))
    wanted = [chunk for chunk in chunks if chunk.name not in known]
    wanted_bytes = sum(chunk.size_bytes for chunk in wanted)
    if wanted_bytes <= WINDOW_BYTES:
        yield _Wanted(listed.names, listed.sizes, wanted, name), wanted_bytes
    else:
        yield from _torn(chunks, known)


def _torn(chunks: list[ListedChunk], known: Container[bytes]) -> Iterator[tuple[_Wanted, int]]:
    """Divide a list."""
    start = held_bytes = 0
    for number, chunk in enumerate(chunks, start=1):
        held_bytes += 0 if chunk.name in known else chunk.size_bytes
        if held_bytes >= WINDOW_BYTES or number == len(chunks):
            some = chunks[start:number]
            wanted = [chunk for chunk in some if chunk.name not in known]
            yield (
                _Wanted([chunk.name for chunk in some], [chunk.size_bytes for chunk in some], wanted, None),
                held_bytes,
            )
            start, held_bytes = number, 0


def _stretches(locations: Iterable[Location]) -> Iterator[_Stretch]:
    """Join what lies near each other."""
    group: list[Location] = []
    for place in sorted(locations, key=lambda place: (place.pack, place.offset)):
        if group and (place.pack != group[0].pack or place.offset > _end(group[-1]) + GAP_BYTES):
            yield _stretch(group)
            group = []
        group.append(place)
    if group:
        yield _stretch(group)


def _stretch(group: list[Location]) -> _Stretch:
    return _Stretch(group[0].pack, group[0].offset, _end(group[-1]), tuple(group))


def _end(place: Location) -> int:
    return place.offset + place.chunk.stored_bytes


def _overlapping(items: list[tuple[T, int]], start: int, offset: int, end: int) -> tuple[list[T], int]:
    """Of things that lie side by side from `start` on, return those that touch a range, and where the first begins."""
    edges = list(accumulate((size for _, size in items), initial=start))
    first = max(bisect_right(edges, offset) - 1, 0)
    last = first
    while last < len(items) and edges[last] < end:
        last += 1
    return [item for item, _ in items[first:last]], edges[first]


def _explain(stretch: _Stretch, error: MigratorError) -> MigratorError:
    """A pack that is gone or too short is damage like any other."""
    if isinstance(error, NotFound) and error.code != "object_not_found":
        return error
    if error.code == "chunk_damaged":
        return error
    return IntegrityError(
        f"pack {stretch.pack} cannot be read: {error}",
        code="chunk_missing",
        remedy="it was changed or removed; use another backup",
    )


def _missing(name: bytes, location: str) -> IntegrityError:
    return IntegrityError(
        f"chunk {name.hex()} is not in {location}",
        code="chunk_missing",
        remedy="its pack was removed, or the index of it; use another backup",
    )
