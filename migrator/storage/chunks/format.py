"""Packs, pack indexes and lists, to the byte: see docs/format.md. Knows bytes and no store.

pack         MAGIC, stored chunks one after the other, their directory, its number of entries, MAGIC again
pack index   MAGIC, and for each pack: its name, its size, the number of entries, its directory
list         entries of 36 bytes: the name of a chunk and its length
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple

from migrator.errors import IntegrityError

PACK_MAGIC = b"mgpack01"
PACK_INDEX_MAGIC = b"mgpidx01"
SALT_BYTES = 16
"""By chance, so that no pack ever has the name of another: one that is about to be removed cannot be written anew."""
HEAD_BYTES = len(PACK_MAGIC) + SALT_BYTES
CHUNK_LIMIT_BYTES = 1 << 20
"""A longer chunk is refused."""
STORED_LIMIT_BYTES = CHUNK_LIMIT_BYTES + (64 << 10)
LIST_LIMIT = 1024
"""A list has no more entries; it ends earlier after one whose name ends in a zero byte."""
_STORED = struct.Struct("<32sBII")
_PACK_HEAD = struct.Struct("<32sQI")
_COUNT = struct.Struct("<I")
_LISTED = struct.Struct("<32sI")


@dataclass(frozen=True, slots=True)
class StoredChunk:
    """A chunk as its pack holds it."""

    name: bytes
    codec: int
    stored_bytes: int
    size_bytes: int
    """Of the chunk itself."""


@dataclass(frozen=True, slots=True)
class Pack:
    """What a pack holds, in order."""

    name: str
    size_bytes: int
    chunks: tuple[StoredChunk, ...]

    def placed(self) -> Iterator[tuple[int, StoredChunk]]:
        """Give each chunk with its offset in the pack."""
        offset = HEAD_BYTES
        for chunk in self.chunks:
            yield offset, chunk
            offset += chunk.stored_bytes


class ListedChunk(NamedTuple):
    """A chunk as a part needs it; there are many."""

    name: bytes
    size_bytes: int


def pack_head() -> bytes:
    """Return what stands before the stored chunks in a new pack."""
    return PACK_MAGIC + secrets.token_bytes(SALT_BYTES)


def pack_tail(chunks: Sequence[StoredChunk]) -> bytes:
    """Return what follows the stored chunks in a pack."""
    return b"".join(map(_to_bytes, chunks)) + _COUNT.pack(len(chunks)) + PACK_MAGIC


def read_pack_directory(name: str, data: bytes) -> Pack:
    """Read what a pack says of itself; for when its index is lost.

    Args:
        name: Its name.
        data: All of it.

    Raises:
        IntegrityError: `bad_pack`, it is not what its name says or not laid out as a pack.
    """
    foot = _COUNT.size + len(PACK_MAGIC)
    if sha256(data).hexdigest() != name:
        raise _bad("pack", f"{name} is not what its name says")
    if len(data) < foot + HEAD_BYTES or not (data.startswith(PACK_MAGIC) and data.endswith(PACK_MAGIC)):
        raise _bad("pack", f"{name} is none")
    (count,) = _COUNT.unpack_from(data, len(data) - foot)
    start = len(data) - foot - count * _STORED.size
    if start < HEAD_BYTES:
        raise _bad("pack", f"{name} has no room for {count} chunks")
    return _checked(Pack(name, len(data), _directory(memoryview(data)[start : len(data) - foot])))


def write_pack_index(packs: Sequence[Pack]) -> bytes:
    """Return the bytes of a pack index."""
    pieces = [PACK_INDEX_MAGIC]
    for pack in packs:
        pieces.append(_PACK_HEAD.pack(bytes.fromhex(pack.name), pack.size_bytes, len(pack.chunks)))
        pieces.extend(map(_to_bytes, pack.chunks))
    return b"".join(pieces)


def listed_bytes(packs: Sequence[Pack]) -> int:
    """How long the index of some packs is."""
    return len(PACK_INDEX_MAGIC) + sum(_PACK_HEAD.size + len(pack.chunks) * _STORED.size for pack in packs)


def read_pack_index(name: str, data: bytes) -> list[Pack]:
    """Read a pack index.

    Raises:
        IntegrityError: `bad_pack_index`, it is not what its name says or malformed.
    """
    if sha256(data).hexdigest() != name:
        raise _bad("pack index", f"{name} is not what its name says")
    if not data.startswith(PACK_INDEX_MAGIC):
        raise _bad("pack index", f"{name} is none")
    view, place, packs = memoryview(data), len(PACK_INDEX_MAGIC), []
    while place < len(view):
        if place + _PACK_HEAD.size > len(view):
            raise _bad("pack index", f"{name} is cut off")
        digest, size_bytes, count = _PACK_HEAD.unpack_from(view, place)
        place += _PACK_HEAD.size
        end = place + count * _STORED.size
        if end > len(view):
            raise _bad("pack index", f"{name} is cut off")
        packs.append(_checked(Pack(digest.hex(), size_bytes, _directory(view[place:end]))))
        place = end
    return packs


def write_list(chunks: Sequence[ListedChunk]) -> bytes:
    """Return the bytes of a list."""
    return b"".join(_LISTED.pack(chunk.name, chunk.size_bytes) for chunk in chunks)


def read_list(data: bytes) -> tuple[list[bytes], list[int]]:
    """Read a list; return the names and the lengths of its chunks.

    Raises:
        IntegrityError: `bad_recipe`.
    """
    if not data or len(data) % _LISTED.size or len(data) > LIST_LIMIT * _LISTED.size:
        raise _bad("recipe", f"a list of {len(data)} bytes")
    found = list(_LISTED.iter_unpack(data))
    sizes = [size_bytes for _, size_bytes in found]
    if min(sizes) < 1 or max(sizes) > CHUNK_LIMIT_BYTES:
        raise _bad("recipe", "a list tells of a chunk of impossible length")
    return [name for name, _ in found], sizes


def ends_list(chunks: Sequence[ListedChunk]) -> bool:
    """Whether a list that is being written ends here: depends on nothing before it, so that equal stretches share."""
    return chunks[-1].name[-1] == 0 or len(chunks) == LIST_LIMIT


def _to_bytes(chunk: StoredChunk) -> bytes:
    return _STORED.pack(chunk.name, chunk.codec, chunk.stored_bytes, chunk.size_bytes)


def _directory(data: memoryview) -> tuple[StoredChunk, ...]:
    return tuple(StoredChunk(*fields) for fields in _STORED.iter_unpack(data))


def _checked(pack: Pack) -> Pack:
    """A pack whose chunks fill exactly what is between its head and its directory."""
    held_bytes = sum(chunk.stored_bytes for chunk in pack.chunks)
    tail_bytes = len(pack.chunks) * _STORED.size + _COUNT.size + len(PACK_MAGIC)
    if HEAD_BYTES + held_bytes + tail_bytes != pack.size_bytes:
        raise _bad("pack", f"{pack.name} has {pack.size_bytes} bytes, which its chunks do not fill")
    if any(chunk.size_bytes > CHUNK_LIMIT_BYTES or chunk.stored_bytes > STORED_LIMIT_BYTES for chunk in pack.chunks):
        raise _bad("pack", f"{pack.name} tells of a chunk of impossible length")
    return pack


def _bad(what: str, why: str) -> IntegrityError:
    return IntegrityError(
        f"a damaged {what}: {why}",
        code=f"bad_{what.replace(' ', '_')}",
        remedy="somebody changed the object store; see `docs/format.md`",
    )
