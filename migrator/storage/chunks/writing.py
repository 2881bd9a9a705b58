"""Write parts as chunks: what the store has already is not sent again. Packs first, then the index of these packs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Self, TypeVar

from migrator.errors import IntegrityError, Unavailable
from migrator.models.descriptors import Descriptor
from migrator.storage import layout
from migrator.storage.chunks.coding import ChunkCoding, Sampling
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
from migrator.storage.verify import digest_mismatch

PACK_BYTES = 12 << 20
"""A pack is closed when it holds this much."""
TOGETHER = 256
"""Chunks that are looked up at once."""
GROUPS_WAITING = 2
"""So many groups of chunks may wait for their digest; a group is held in memory until then."""
PARALLEL_PACKS = 2
T = TypeVar("T")
OfferedChunk = tuple[bytes, int, bytes | Callable[[], bytes] | None]
"""A chunk of a part: its name, its length, and its bytes, or who reads them if the store lacks it."""


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

    For one thread. Holds up to four packs in memory. Lists come last, side by side: who reads a part wants all of them.

    Args:
        objects: The store.
        coding: How chunks are named and stored.
        locations: What the store is known to have.
        avoided: Packs whose chunks are not relied on.
        job_id: Each pack is marked as this job's before it is written: nobody else relies on it. "": they are for all.
        rely_on_others: Whether chunks that others have written are looked for.
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
        *,
        rely_on_others: bool = True,
    ):
        self.written = Written()
        self._objects = objects
        self._coding = coding
        self._locations = locations
        self._avoided = avoided
        self._job_id = job_id
        self._rely_on_others = rely_on_others
        self.known: set[bytes] = set()
        """The names of chunks that need not be sent."""
        self._pools = pools
        self._pool = pools(PARALLEL_PACKS)
        self._sending: list[Future[None]] = []
        self._sampling = Sampling(coding)
        self._body = bytearray()
        self._chunks: list[StoredChunk] = []
        self._lists: list[tuple[bytes, bytes]] = []

    def rely_on(self, names: Iterable[bytes], packs: Iterable[str]) -> None:
        """Take notice of chunks that the same job has written before, all at once: a frozen container waits for it.

        Args:
            names: The chunks.
            packs: The packs that they are in.
        """
        self.known.update(names)
        self.written.relied_on.update(packs)

    def add_part(self, part: Descriptor, chunks: Iterable[bytes], on_progress: Progress | None = None) -> Recipe:
        """Write a part; return how it is put together.

        Args:
            part: Its media type, and its digest if that is known; its length is found on the way.
            chunks: Its bytes as they were cut, none longer than a chunk may be.
            on_progress: Called with the bytes that were dealt with.

        Raises:
            IntegrityError: `digest_mismatch`, the bytes are not those of the digest.
        """
        if not part.digest:
            return self.add_named(part, self._named(chunks), on_progress)
        with _DigestBeside(self._pools) as digest:
            recipe = self.add_named(part, self._named(digest.watch(chunks)), on_progress)
            digest.check(part.digest)
        return recipe

    def add_named(
        self, part: Descriptor, chunks: Iterable[OfferedChunk], on_progress: Progress | None = None
    ) -> Recipe:
        """Write a part whose chunks are named already; return how it is put together.

        Args:
            part: Its media type, and its digest if that is known: it is not looked at.
            chunks: Name, length and bytes of each, in order; the bytes may be missing, or still to be read, where the
                store has the chunk. A name is believed: whoever gives it has hashed these bytes.
            on_progress: Called with the bytes that were dealt with.

        Raises:
            IntegrityError: `chunk_missing`, one without bytes is not in the store.
        """
        lists: list[ChunkList] = []
        current: list[ListedChunk] = []
        size_bytes = 0
        for group in _groups(chunks):
            self._store(group)
            for name, length, _ in group:
                current.append(ListedChunk(name, length))
                if ends_list(current):
                    self._end_list(current, lists)
            group_bytes = sum(length for _, length, _ in group)
            size_bytes += group_bytes
            if on_progress:
                on_progress(group_bytes)
        if current:
            self._end_list(current, lists)
        return Recipe(part.media_type, part.digest, size_bytes, tuple(lists))

    def name(self, chunk: bytes | memoryview) -> bytes:
        """Return the name of a chunk, for `add_named`."""
        return self._coding.name(chunk)

    def knows(self, name: bytes) -> bool:
        """Whether a chunk was written by this job, or met in the store; another may be there all the same."""
        return name in self.known

    def add_note(self, data: bytes) -> bytes:
        """Write something that is no part and has room in one chunk; return its name, by which it can be read."""
        return self._store_late(data)

    def finish(self) -> Written:
        """Send what is held, then the index of all packs; after this every part can be read."""
        for name, data in self._lists:
            self._pack(name, data, *self._coding.encode(data))
        self._close_pack()
        _await(self._sending)
        if self.written.packs:
            seeing = [self._pool.submit(self._see, pack) for pack in self.written.packs]
            if not self._job_id:  # nobody else looks into an index whose packs are a job's own
                _await(seeing)
            self.written.index, size_bytes = put_pack_index(self._objects, self._locations, self.written.packs)
            self.written.stored_bytes += size_bytes
            _await(seeing)
        self._pool.shutdown()
        return self.written

    def _see(self, pack: Pack) -> None:
        """See that a pack is in the store as it was sent, before anything is sealed that needs it.

        Raises:
            Unavailable: `pack_cut_short`.
        """
        found = self._objects.head(layout.pack_key(pack.name))
        if found is None or found.size_bytes != pack.size_bytes:
            raise _not_kept(f"pack {pack.name}")

    def abandon(self) -> None:
        """Give up; packs that were sent already are for prune to find."""
        for sent in self._sending:
            sent.cancel()
        self._pool.shutdown()

    def _named(self, chunks: Iterable[bytes]) -> Iterator[OfferedChunk]:
        for chunk in chunks:
            yield self._coding.name(chunk), len(chunk), chunk

    def _end_list(self, current: list[ListedChunk], lists: list[ChunkList]) -> None:
        name = self._store_late(write_list(current))
        lists.append(ChunkList(name, sum(chunk.size_bytes for chunk in current)))
        current.clear()

    def _store(self, chunks: Sequence[OfferedChunk]) -> None:
        """Put into packs what the store lacks of some chunks."""
        self._look_for(name for name, _, _ in chunks if name not in self.known)
        for name, _, content in chunks:
            if name in self.known:
                self.written.reused_chunks += 1
                continue
            data = content() if callable(content) else content
            if data is None:
                raise _not_there(name, self._objects.location)
            self._pack(name, data, *self._sampling.encode(data))
            self.known.add(name)

    def _look_for(self, names: Iterable[bytes]) -> None:
        """Take notice of chunks that others have written."""
        wanted = list(names)
        if wanted and self._rely_on_others:
            found = self._locations.find(wanted, self._avoided)
            self.known.update(found)  # in place: there are many, and `|=` with keys would copy them all
            self.written.relied_on |= {place.pack for place in found.values()}

    def _store_late(self, data: bytes) -> bytes:
        """Keep a list, or a note, until everything else is in packs."""
        name = self._coding.name(data)
        if name not in self.known:
            self._look_for([name])
        if name in self.known:
            self.written.reused_chunks += 1
        else:
            self._lists.append((name, data))
        self.known.add(name)
        return name

    def _pack(self, name: bytes, chunk: bytes, codec: int, stored: bytes) -> None:
        if not self._chunks:
            self._body += pack_head()
        self._body += stored
        self._chunks.append(StoredChunk(name, codec, len(stored), len(chunk)))
        self.written.new_chunks += 1
        if len(self._body) >= PACK_BYTES:
            self._close_pack()

    def _close_pack(self) -> None:
        if not self._chunks:
            return
        self._body += pack_tail(self._chunks)
        name = hashlib.sha256(self._body).hexdigest()
        self.written.packs.append(Pack(name, len(self._body), tuple(self._chunks)))
        self.written.stored_bytes += len(self._body)
        data, self._body, self._chunks = self._body, bytearray(), []
        while len(self._sending) >= PARALLEL_PACKS:
            self._sending.pop(0).result()
        self._sending.append(self._pool.submit(self._send, name, data))

    def _send(self, name: str, data: bytearray) -> None:
        if self._job_id:
            mark_own(self._objects, layout.pack_mark_key(name), self._job_id)
        self._objects.put_hashed(layout.pack_key(name), data, f"sha256:{name}")


class _DigestBeside:
    """The SHA-256 of all chunks, computed beside everything else: it takes as long as all of that together.

    For parts that others know by their digest. Chunks and lists vouch for each other without it.
    """

    def __init__(self, pools: Pools):
        self._pool = pools(1)
        self._sha256 = hashlib.sha256()
        self._under_way: list[Future[None]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def watch(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Pass chunks on; waits if too many groups of them wait for their digest."""
        for group in _groups(chunks):
            while len(self._under_way) >= GROUPS_WAITING:
                self._under_way.pop(0).result()
            self._under_way.append(self._pool.submit(self._update_all, group))
            yield from group

    def check(self, digest: str) -> None:
        """See that all of it has a digest.

        Raises:
            IntegrityError: `digest_mismatch`.
        """
        for group in self._under_way:
            group.result()
        if f"sha256:{self._sha256.hexdigest()}" != digest:
            raise digest_mismatch(f"part {digest}", digest)

    def _update_all(self, chunks: Sequence[bytes]) -> None:
        for chunk in chunks:
            self._sha256.update(chunk)


def _groups(chunks: Iterable[T]) -> Iterator[list[T]]:
    """Give chunks some at a time."""
    rest = iter(chunks)
    while group := list(islice(rest, TOGETHER)):
        yield group


def put_pack_index(objects: ObjectStore, locations: Locations, packs: Sequence[Pack]) -> tuple[str, int]:
    """Write the index of some packs and take notice of it; return its name and its length.

    Raises:
        Unavailable: `pack_cut_short`.
    """
    data = write_pack_index(packs)
    name = hashlib.sha256(data).hexdigest()
    objects.put_hashed(layout.pack_index_key(name), data, f"sha256:{name}")
    if objects.get(layout.pack_index_key(name), len(data) + 1) != data:
        objects.delete(layout.pack_index_key(name))
        raise _not_kept(f"pack index {name}")
    locations.add(name, packs)
    return name, len(data)


def _await(done: Iterable[Future[None]]) -> None:
    for one in done:
        one.result()


def _not_there(name: bytes, location: str) -> IntegrityError:
    return IntegrityError(
        f"chunk {name.hex()} was named without its bytes, and is not in {location}",
        code="chunk_missing",
        remedy="what was sent ahead of it has gone; try again",
    )


def _not_kept(what: str) -> Unavailable:
    return Unavailable(
        f"{what} was not kept as it was sent", code="pack_cut_short", remedy="the store lost bytes; it is tried again"
    )
