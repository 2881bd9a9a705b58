"""The chunks of an object store: parts go in by a writer and come out by their recipes."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from migrator.errors import IntegrityError, NotFound
from migrator.storage import layout
from migrator.storage.chunks.coding import ChunkCoding, PlainCoding
from migrator.storage.chunks.format import Pack, read_pack_index
from migrator.storage.chunks.locations import Locations
from migrator.storage.chunks.reading import ChunkReader
from migrator.storage.chunks.recipes import Recipe
from migrator.storage.chunks.writing import ChunkWriter, put_pack_index
from migrator.storage.store import ObjectStore

PACK_INDEX_LIMIT_BYTES = 1 << 30
"""A pack index longer than this is refused; one of a backup has some 1.4 MB for each GiB of new memory."""
PARALLEL_LOOKS = 8
TOGETHER = 5000
"""Chunks that are looked up at once."""


@dataclass(frozen=True, slots=True)
class PackIndex:
    """A pack index as read."""

    name: str
    size_bytes: int
    packs: tuple[Pack, ...]
    damage: str = ""
    """Why nothing can be learned from it."""


class ChunkStore:
    """Chunks over any object store. May be shared by threads.

    Args:
        objects: The store.
        cache: A file for what is known of its pack indexes; it may be removed at any time. None: a temporary one.
        coding: How chunks are named and stored.
    """

    def __init__(self, objects: ObjectStore, cache: Path | None = None, coding: ChunkCoding | None = None):
        self._objects = objects
        self._coding = coding or PlainCoding()
        self._locations = Locations(cache)
        self._refreshing = threading.Lock()
        self._reader = ChunkReader(objects, self._coding, self._locations, self.refresh)

    def over(self, objects: ObjectStore) -> ChunkStore:
        """Return the same chunks, written through another face of the same store."""
        other = copy(self)
        other._objects = objects
        return other

    # ---- writing and reading

    @contextmanager
    def writing(self) -> Iterator[ChunkWriter]:
        """Write parts: when the block ends well, packs and their index are in the store and every part can be read."""
        self.refresh()
        writer = ChunkWriter(self._objects, self._coding, self._locations, frozenset(self.marked_packs()))
        try:
            yield writer
        except BaseException:
            writer.abandon()
            raise
        writer.finish()

    def read(self, recipe: Recipe) -> Iterator[bytes]:
        """Give the bytes of a part; each chunk is verified, the whole is for the caller to verify."""
        return self._reader.read(recipe)

    def read_range(self, recipe: Recipe, offset: int, length: int) -> bytes:
        """Read some bytes of a part, fewer at its end."""
        return self._reader.read_range(recipe, offset, length)

    def open(self, recipe: Recipe) -> io.BufferedReader:
        """Open a part as a file that can be read from anywhere; only the chunks that are touched are fetched."""
        return self._reader.open(recipe)

    def close(self) -> None:
        """Close the cache; the next use opens it again."""
        self._locations.close()

    # ---- what prune and verify want to know

    def names_in(self, recipe: Recipe) -> Iterator[bytes]:
        """Give the name of every chunk that a part needs, its lists included."""
        return self._reader.names(recipe)

    def packs_of(self, recipes: Iterable[Recipe], without: Iterable[str] = ()) -> set[str]:
        """Choose packs that hold all chunks of some parts.

        Args:
            recipes: The parts.
            without: Packs that do not count: those that prune is about to remove.

        Raises:
            IntegrityError: `chunk_missing`, no other pack has one of them.
        """
        avoided, packs = frozenset(without), set[str]()
        for recipe in recipes:
            names = self.names_in(recipe)
            while some := set(islice(names, TOGETHER)):
                packs |= {place.pack for place in self._reader.locate(some, avoided).values()}
        return packs

    def stored_sizes(self, recipe: Recipe) -> dict[bytes, int]:
        """Say what each chunk that a part needs occupies in its pack, by name.

        Raises:
            IntegrityError: `chunk_missing`.
        """
        names, found = self.names_in(recipe), dict[bytes, int]()
        while some := set(islice(names, TOGETHER)):
            found |= {name: place.chunk.stored_bytes for name, place in self._reader.locate(some).items()}
        return found

    def pack_indexes(self) -> Iterator[PackIndex]:
        """Read all pack indexes of the store; a damaged one says so and names no pack."""
        for info in self._objects.scan(layout.PACK_INDEXES):
            name = info.key.removeprefix(layout.PACK_INDEXES)
            try:
                data = self._objects.get(info.key, PACK_INDEX_LIMIT_BYTES)
                yield PackIndex(name, len(data), tuple(read_pack_index(name, data)))
            except IntegrityError as error:
                yield PackIndex(name, info.size_bytes, (), error.message)
            except NotFound as error:
                if error.code != "object_not_found":
                    raise
                continue  # replaced since it was listed

    def put_pack_index(self, packs: Sequence[Pack]) -> str:
        """Write the index of some packs: instead of others, to be deleted after this, or because it was lost.

        Returns:
            Its name.
        """
        return put_pack_index(self._objects, self._locations, packs)[0]

    def marked_packs(self) -> set[str]:
        """The packs that prune is about to remove."""
        return {info.key.removeprefix(layout.PACK_MARKS) for info in self._objects.scan(layout.PACK_MARKS)}

    def lost_packs(self, packs: set[str]) -> set[str]:
        """Of some packs, those that nobody may rely on: they are not there, or about to be removed."""
        marked = self.marked_packs()  # before the looks: a pack goes before its mark does
        with ThreadPoolExecutor(PARALLEL_LOOKS) as pool:
            wanted = sorted(packs)
            heads = pool.map(lambda name: self._objects.head(layout.pack_key(name)), wanted)
            absent = {name for name, found in zip(wanted, heads, strict=True) if found is None}
        return absent | (packs & marked)

    def refresh(self) -> None:
        """Take notice of pack indexes that came and went."""
        with self._refreshing:
            there = {info.key.removeprefix(layout.PACK_INDEXES) for info in self._objects.scan(layout.PACK_INDEXES)}
            known = self._locations.indexes()
            for name in sorted(there - known):
                self._learn(name)
            if gone := known - there:
                self._locations.forget(gone)

    def _learn(self, name: str) -> None:
        try:
            data = self._objects.get(layout.pack_index_key(name), PACK_INDEX_LIMIT_BYTES)
            packs = read_pack_index(name, data)
        except IntegrityError:
            return  # a damaged index tells nothing; who misses a chunk of it says so
        except NotFound as error:
            if error.code != "object_not_found":
                raise
            return
        self._locations.add(name, packs)
