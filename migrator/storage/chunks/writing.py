"""Write parts as chunks: what the store has already is not sent again. Packs first, then the index of these packs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from migrator.models.descriptors import Descriptor
from migrator.storage import layout
from migrator.storage.chunks.coding import ChunkCoding
from migrator.storage.chunks.format import (
    ListedChunk,
    Pack,
    StoredChunk,
    ends_list,
    pack_head,
    pack_tail,
    write_list,
    write_pack_index,
)
from migrator.storage.chunks.locations import Locations
from migrator.storage.chunks.recipes import ChunkList, Recipe
from migrator.storage.store import ObjectStore, Progress

PACK_BYTES = 12 << 20
"""A pack is closed when it holds this much."""
TOGETHER = 256
"""Chunks that are looked up at once."""
PARALLEL_PACKS = 2


@dataclass(slots=True)
class Written:
    """What a writer did."""

    new_chunks: int = 0
    reused_chunks: int = 0
    stored_bytes: int = 0
    """What it added to the store: packs and their index."""
    packs: list[Pack] = field(default_factory=list)


class ChunkWriter:
    """Writes parts; `finish` makes them readable, and nothing of it is before.

    For one thread. Holds up to four packs in memory.

    Args:
        objects: The store.
        coding: How chunks are named and stored.
        locations: What the store is known to have.
        avoided: Packs whose chunks are not relied on.
    """

    def __init__(
        self, objects: ObjectStore, coding: ChunkCoding, locations: Locations, avoided: frozenset[str] = frozenset()
    ):
        self.written = Written()
        self._objects = objects
        self._coding = coding
        self._locations = locations
        self._avoided = avoided
        self._known: set[bytes] = set()
        self._pool = ThreadPoolExecutor(PARALLEL_PACKS)
        self._sending: list[Future[None]] = []
        self._bodies: list[bytes] = []
        self._chunks: list[StoredChunk] = []
        self._held_bytes = 0

    def add_part(self, part: Descriptor, chunks: Iterable[bytes], on_progress: Progress | None = None) -> Recipe:
        """Write a part; return how it is put together.

        Args:
            part: Its media type; digest and length are found on the way.
            chunks: Its bytes as they were cut, none longer than a chunk may be.
            on_progress: Called with the bytes that were dealt with.
        """
        digest, size_bytes = hashlib.sha256(), 0
        lists: list[ChunkList] = []
        current: list[ListedChunk] = []
        waiting: list[bytes] = []
        for chunk in chunks:
            digest.update(chunk)
            size_bytes += len(chunk)
            waiting.append(chunk)
            if len(waiting) == TOGETHER:
                self._list_all(waiting, current, lists)
                waiting = []
            if on_progress:
                on_progress(len(chunk))
        self._list_all(waiting, current, lists)
        if current:
            self._end_list(current, lists)
        return Recipe(part.media_type, f"sha256:{digest.hexdigest()}", size_bytes, tuple(lists))

    def finish(self) -> Written:
        """Send what is held, then the index of all packs; after this every part can be read."""
        self._close_pack()
        for sent in self._sending:
            sent.result()
        self._pool.shutdown()
        if self.written.packs:
            self.written.stored_bytes += put_pack_index(self._objects, self._locations, self.written.packs)[1]
        return self.written

    def abandon(self) -> None:
        """Give up; packs that were sent already are for prune to find."""
        for sent in self._sending:
            sent.cancel()
        self._pool.shutdown()

    def _list_all(self, chunks: list[bytes], current: list[ListedChunk], lists: list[ChunkList]) -> None:
        names = self._store(chunks)
        for name, chunk in zip(names, chunks, strict=True):
            current.append(ListedChunk(name, len(chunk)))
            if ends_list(current):
                self._end_list(current, lists)

    def _end_list(self, current: list[ListedChunk], lists: list[ChunkList]) -> None:
        (name,) = self._store([write_list(current)])
        lists.append(ChunkList(name, sum(chunk.size_bytes for chunk in current)))
        current.clear()

    def _store(self, chunks: list[bytes]) -> list[bytes]:
        """Put into packs what the store lacks of some chunks; return the names of all."""
        names = [self._coding.name(chunk) for chunk in chunks]
        self._known |= self._locations.find((name for name in names if name not in self._known), self._avoided).keys()
        for name, chunk in zip(names, chunks, strict=True):
            if name in self._known:
                self.written.reused_chunks += 1
                continue
            self._pack(name, chunk)
            self._known.add(name)
        return names

    def _pack(self, name: bytes, chunk: bytes) -> None:
        codec, stored = self._coding.encode(chunk)
        self._bodies.append(stored)
        self._chunks.append(StoredChunk(name, codec, len(stored), len(chunk)))
        self._held_bytes += len(stored)
        self.written.new_chunks += 1
        if self._held_bytes >= PACK_BYTES:
            self._close_pack()

    def _close_pack(self) -> None:
        if not self._chunks:
            return
        data = b"".join([pack_head(), *self._bodies, pack_tail(self._chunks)])
        name = hashlib.sha256(data).hexdigest()
        self.written.packs.append(Pack(name, len(data), tuple(self._chunks)))
        self.written.stored_bytes += len(data)
        self._bodies, self._chunks, self._held_bytes = [], [], 0
        while len(self._sending) >= PARALLEL_PACKS:
            self._sending.pop(0).result()
        self._sending.append(self._pool.submit(self._send, name, data))

    def _send(self, name: str, data: bytes) -> None:
        self._objects.upload(layout.pack_key(name), [data], size_bytes=len(data), digest=f"sha256:{name}")


def put_pack_index(objects: ObjectStore, locations: Locations, packs: Sequence[Pack]) -> tuple[str, int]:
    """Write the index of some packs and take notice of it; return its name and its length."""
    data = write_pack_index(packs)
    name = hashlib.sha256(data).hexdigest()
    objects.upload(layout.pack_index_key(name), [data], size_bytes=len(data), digest=f"sha256:{name}")
    locations.add(name, packs)
    return name, len(data)
