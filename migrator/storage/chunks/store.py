"""The chunks of an object store: parts go in by a writer and come out by their recipes."""

from __future__ import annotations

import io
import threading
from collections.abc import Collection, Container, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from migrator.errors import IntegrityError, NotFound
from migrator.storage import layout
from migrator.storage.chunks.begun import Begun, Stock
from migrator.storage.chunks.coding import ChunkCoding, PlainCoding
from migrator.storage.chunks.format import ListedChunk, Pack, read_pack_index
from migrator.storage.chunks.locations import Locations
from migrator.storage.chunks.marks import names_marked
from migrator.storage.chunks.pools import Pools
from migrator.storage.chunks.reading import ChunkReader, Chunks
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
        pools: Makes the threads that send and fetch.
    """

    def __init__(
        self,
        objects: ObjectStore,
        cache: Path | None = None,
        coding: ChunkCoding | None = None,
        pools: Pools = ThreadPoolExecutor,
    ):
        self._objects = objects
        self._coding = coding or PlainCoding()
        self._locations = Locations(cache)
        self._refreshing = threading.Lock()
        self._begun = Begun()
        self.pools = pools
        self._reader = ChunkReader(objects, self._coding, self._locations, self.refresh, pools)

    def over(self, objects: ObjectStore) -> ChunkStore:
        """Return the same chunks, written and read through another face of the same store."""
        other = copy(self)
        other._objects = objects
        other._reader = self._reader.over(objects)
        return other

    # ---- writing and reading

    @contextmanager
    def writing(self, job_id: str = "", own: Collection[str] = ()) -> Iterator[ChunkWriter]:
        """Write parts: when the block ends well, packs and their index are in the store and every part can be read.

        A job that writes once more relies on what it has written and found the last time, and asks the store nothing:
        a frozen container may wait for it. Only a seal finds out whether others have begun to remove some of that.

        Args:
            job_id: Whose packs they are, and nobody else's; see `own_packs`.
            own: The pack indexes that this job has written before.
        """
        before = self._begun.of(job_id, own)
        writer = self._first_writer(job_id, own) if before is None else self._next_writer(job_id, before)
        try:
            yield writer
            done = writer.finish()
        except BaseException:
            writer.abandon()
            raise
        if job_id:
            indexes = (*own, *filter(None, [done.index]))
            self._begun.note(job_id, indexes, writer.known, done.relied_on | {pack.name for pack in done.packs})

    def _first_writer(self, job_id: str, own: Collection[str]) -> ChunkWriter:
        self.refresh()
        writer = ChunkWriter(self._objects, self._coding, self._locations, self.foreign_marks(own), job_id, self.pools)
        writer.rely_on(self._locations.names_in(own), self._locations.packs_in(own))
        return writer

    def _next_writer(self, job_id: str, before: Stock) -> ChunkWriter:
        writer = ChunkWriter(
            self._objects, self._coding, self._locations, frozenset(), job_id, self.pools, rely_on_others=False
        )
        writer.rely_on(before.names, before.packs)
        return writer

    def forget(self, job_id: str) -> None:
        """Forget what a job may rely on: it writes no more."""
        self._begun.forget(job_id)

    def read(self, recipe: Recipe) -> Iterator[bytes]:
        """Give the bytes of a part; each chunk is verified, the whole is for the caller to verify."""
        return self._reader.read(recipe)

    def read_unless_known(
        self, recipe: Recipe, known: Container[bytes], known_lists: Container[bytes] = frozenset()
    ) -> Iterator[Chunks]:
        """Give the chunks of a part, some at a time; those that the caller knows by name without their bytes."""
        return self._reader.read_unless_known(recipe, known, known_lists)

    def name(self, chunk: bytes | memoryview) -> bytes:
        """Return the name by which a chunk is known here."""
        return self._coding.name(chunk)

    def read_note(self, name: bytes) -> bytes:
        """Read what `ChunkWriter.add_note` wrote.

        Raises:
            IntegrityError: `chunk_missing` or `chunk_damaged`.
        """
        place = self._reader.locate({name})[name]
        return self._reader.fetch([ListedChunk(name, place.chunk.size_bytes)])[name]

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

    def own_packs(self, job_id: str) -> set[str]:
        """The packs that were written for one job alone: they carry a mark with its name from before they are there.

        Nobody else relies on a marked pack, so the job may delete them when it has no checkpoint any more. A prune
        takes such a mark away only where a checkpoint needs the pack and its job is over: then it is one as any other.
        """
        return names_marked(self._objects, layout.PACK_MARKS, job_id, self.pools)

    def own_pack_indexes(self, job_id: str) -> set[str]:
        """The pack indexes that tell of packs which were written for one job alone."""
        packs = self.own_packs(job_id)
        self.refresh()
        return self._locations.indexes_of(packs)

    def discard_own(self, job_id: str) -> None:
        """Delete what was written for one job alone: pack indexes first, marks last."""
        self.forget(job_id)
        packs = self.own_packs(job_id)
        if not packs:
            return
        self.refresh()
        for index in self._locations.indexes_of(packs):
            self._objects.delete(layout.pack_index_key(index))
        with self.pools(PARALLEL_LOOKS) as pool:
            for _ in pool.map(self._delete_own, sorted(packs)):
                pass
        self.refresh()

    def give_own(self, job_id: str) -> None:
        """Leave what was written for one job alone to everybody: its checkpoint stays. The rest is a prune's."""
        self.forget(job_id)
        for name in sorted(self.own_packs(job_id)):
            self._objects.delete(layout.pack_mark_key(name))

    def _delete_own(self, name: str) -> None:
        self._objects.delete(layout.pack_key(name))
        self._objects.delete(layout.pack_mark_key(name))

    def foreign_marks(self, own: Collection[str] = ()) -> frozenset[str]:
        """The packs that nobody may rely on, but those that the pack indexes of the job that asks tell of."""
        return frozenset(self.marked_packs() - self._packs_in(own))

    def _packs_in(self, own: Collection[str]) -> set[str]:
        """The packs that some pack indexes tell of, which others may have written since the last look."""
        if not self._locations.has_read(own):
            self.refresh()
        return self._locations.packs_in(own)

    def marked_packs(self) -> set[str]:
        """The packs that prune is about to remove."""
        return {info.key.removeprefix(layout.PACK_MARKS) for info in self._objects.scan(layout.PACK_MARKS)}

    def lost_packs(self, packs: set[str], own: Collection[str] = ()) -> set[str]:
        """Of some packs, those that nobody may rely on: they are not there, or about to be removed.

        Args:
            packs: Their names.
            own: Pack indexes of the job that asks. Their packs are there since they were written, and nobody else's.
        """
        packs = packs - self._packs_in(own)
        if not packs:
            return set()
        marked = self.marked_packs()  # before the looks: a pack goes before its mark does
        with self.pools(PARALLEL_LOOKS) as pool:
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

    def learn(self, indexes: Iterable[str]) -> None:
        """Take notice of some pack indexes, without looking for others: somebody has said that they are there."""
        for name in set(indexes) - self._locations.indexes():
            self._learn(name)

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
