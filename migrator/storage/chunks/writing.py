"""Write parts as chunks: what the store has already is not sent again. Packs first, then the index of these packs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Self

from migrator.errors import Unavailable
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
from migrator.storage.chunks.marks import mark_own
from migrator.storage.chunks.pools import Pools
from migrator.storage.chunks.recipes import ChunkList, Recipe
from migrator.storage.store import ObjectStore, Progress

PACK_BYTES = 12 << 20
"""A pack is closed when it holds this much."""
TOGETHER = 256
"""Chunks that are looked up at once."""
GROUPS_WAITING = 2
"""So many groups of chunks may wait for their digest; a group is held in memory until then."""
PARALLEL_PACKS = 2


@dataclass(slots=True)
class Written:
    """What a writer did."""

    new_chunks: int = 0
    reused_chunks: int = 0
    stored_bytes: int = 0
    """What it added to the store: packs and their index."""
    packs: list[Pack] = field(default_factory=list)
    relied_on: set[str] = field(default_factory=set)
    """Packs that were there before, and that have chunks of what was written."""
    index: str | None = None
    """The pack index that tells of the packs; None if nothing was new."""


class ChunkWriter:
    """Writes parts; `finish` makes them readable, and nothing of it is before.

    For one thread. Holds up to four packs in memory.

    Args:
        objects: The store.
        coding: How chunks are named and stored.
        locations: What the store is known to have.
        avoided: Packs whose chunks are not relied on.
        job_id: Each pack is marked as this job's before it is written: nobody else relies on it. "": they are for all.
        pools: Makes the threads that send.
    """

    def __init__(
        self,
        objects: ObjectStore,
        coding: ChunkCoding,
        locations: Locations,
        avoided: frozenset[str] = frozenset(),
        job_id: str = "",
        pools: Pools = ThreadPoolExecutor,
    ):
        self.written = Written()
        self._objects = objects
        self._coding = coding
        self._locations = locations
        self._avoided = avoided
        self._job_id = job_id
        self._known: set[bytes] = set()
        self._pools = pools
        self._pool = pools(PARALLEL_PACKS)
        self._sending: list[Future[None]] = []
        self._bodies: list[bytes] = []
        self._chunks: list[StoredChunk] = []
        self._held_bytes = 0

    def rely_on(self, names: Iterable[bytes], packs: Iterable[str]) -> None:
        """Take notice of chunks that the same job has written before, all at once: a frozen container waits for it.

        Args:
            names: The chunks.
            packs: The packs that they are in.
        """
        self._known |= set(names)
        self.written.relied_on |= set(packs)

    def add_part(self, part: Descriptor, chunks: Iterable[bytes], on_progress: Progress | None = None) -> Recipe:
        """Write a part; return how it is put together.

        Args:
            part: Its media type; digest and length are found on the way.
            chunks: Its bytes as they were cut, none longer than a chunk may be.
            on_progress: Called with the bytes that were dealt with.
        """
        lists: list[ChunkList] = []
        current: list[ListedChunk] = []
        waiting: list[bytes] = []
        with _DigestBeside(self._pools) as digest:
            for chunk in chunks:
                waiting.append(chunk)
                if len(waiting) == TOGETHER:
                    digest.update(waiting)
                    self._list_all(waiting, current, lists)
                    waiting = []
                if on_progress:
                    on_progress(len(chunk))
            digest.update(waiting)
            self._list_all(waiting, current, lists)
            if current:
                self._end_list(current, lists)
            return Recipe(part.media_type, digest.finish(), digest.size_bytes, tuple(lists))

    def add_note(self, data: bytes) -> bytes:
        """Write something that is no part and has room in one chunk; return its name, by which it can be read."""
        (name,) = self._store([data])
        return name

    def finish(self) -> Written:
        """Send what is held, then the index of all packs; after this every part can be read."""
        self._close_pack()
        for sent in self._sending:
            sent.result()
        self._see_packs()
        self._pool.shutdown()
        if self.written.packs:
            self.written.index, size_bytes = put_pack_index(self._objects, self._locations, self.written.packs)
            self.written.stored_bytes += size_bytes
        return self.written

    def _see_packs(self) -> None:
        """See that every pack is in the store as it was sent, before anything says that it is.

        Raises:
            Unavailable: `pack_cut_short`.
        """
        keys = [layout.pack_key(pack.name) for pack in self.written.packs]
        for pack, found in zip(self.written.packs, self._pool.map(self._objects.head, keys), strict=True):
            if found is None or found.size_bytes != pack.size_bytes:
                raise _not_kept(f"pack {pack.name}")

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
        found = self._locations.find((name for name in names if name not in self._known), self._avoided)
        self._known |= found.keys()
        self.written.relied_on |= {place.pack for place in found.values()}
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
        if self._job_id:
            mark_own(self._objects, layout.pack_mark_key(name), self._job_id)
        self._objects.upload(layout.pack_key(name), [data], size_bytes=len(data), digest=f"sha256:{name}")


class _DigestBeside:
    """The SHA-256 of all chunks, computed beside everything else: it takes as long as all of that together."""

    def __init__(self, pools: Pools):
        self._pool = pools(1)
        self._sha256 = hashlib.sha256()
        self._under_way: list[Future[None]] = []
        self.size_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def update(self, chunks: list[bytes]) -> None:
        """Take the next chunks; waits if too many wait already."""
        self.size_bytes += sum(map(len, chunks))
        while len(self._under_way) >= GROUPS_WAITING:
            self._under_way.pop(0).result()
        self._under_way.append(self._pool.submit(self._update_all, chunks))

    def finish(self) -> str:
        """Return the digest of all of them."""
        for group in self._under_way:
            group.result()
        return f"sha256:{self._sha256.hexdigest()}"

    def _update_all(self, chunks: list[bytes]) -> None:
        for chunk in chunks:
            self._sha256.update(chunk)


def put_pack_index(objects: ObjectStore, locations: Locations, packs: Sequence[Pack]) -> tuple[str, int]:
    """Write the index of some packs and take notice of it; return its name and its length.

    Raises:
        Unavailable: `pack_cut_short`.
    """
    data = write_pack_index(packs)
    name = hashlib.sha256(data).hexdigest()
    objects.upload(layout.pack_index_key(name), [data], size_bytes=len(data), digest=f"sha256:{name}")
    if objects.get(layout.pack_index_key(name), len(data) + 1) != data:
        objects.delete(layout.pack_index_key(name))
        raise _not_kept(f"pack index {name}")
    locations.add(name, packs)
    return name, len(data)


def _not_kept(what: str) -> Unavailable:
    return Unavailable(
        f"{what} was not kept as it was sent", code="pack_cut_short", remedy="the store lost bytes; it is tried again"
    )
