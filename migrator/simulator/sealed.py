"""What sealed checkpoints hold, read from the bare objects: no fault is in the way, and nobody notices."""

from __future__ import annotations

import json
from collections.abc import Mapping

from migrator.errors import MigratorError
from migrator.models.descriptors import Descriptor
from migrator.models.roles import Role
from migrator.simulator.programs import IMAGE
from migrator.storage import layout
from migrator.storage.checkpoints import CheckpointStore
from migrator.storage.chunks import is_chunked
from migrator.storage.memory import MemoryStore
from migrator.storage.oci import parse_index

CHUNKS = (layout.PACKS, layout.PACK_INDEXES, layout.PACK_MARKS)


class Sealed:
    """Remembers what it has read: packs never change."""

    def __init__(self) -> None:
        self._blobs: dict[bytes, dict[str, int]] = {}
        self._read: dict[tuple[bytes, frozenset[str]], tuple[bytes, set[str]] | None] = {}

    def keys(self, index: bytes, objects: Mapping[str, bytes]) -> set[str]:
        """The keys of all that an index needs, packs included as far as they are there."""
        found = self._chunked(index, objects)
        return {*self.blobs(index), *(found[1] if found else ())}

    def missing(self, index: bytes, objects: Mapping[str, bytes]) -> list[str]:
        """The ends of the keys of what an index needs and is not there, or not whole."""
        sizes = self.blobs(index)
        missing = [key[-8:] for key, size in sizes.items() if key not in objects or len(objects[key]) != size]
        if not missing and any(map(is_chunked, parse_index(index).parts)) and self._chunked(index, objects) is None:
            return ["chunks"]
        return missing

    def memory(self, index: bytes, objects: Mapping[str, bytes]) -> bytes:
        """The memory that a whole checkpoint holds."""
        part = parse_index(index).part(Role.MEMORY)
        if is_chunked(part):
            found = self._chunked(index, objects)
            return found[0] if found else b""
        return objects[layout.blob_key(part.digest)]

    def blobs(self, index: bytes) -> dict[str, int]:
        """Keys and sizes of all blobs of an index, the base image's included."""
        if index not in self._blobs:
            parts = {part["digest"]: part["size"] for part in json.loads(index)["manifests"]}
            parts |= {digest: blob.size_bytes for digest, (blob, _) in IMAGE.items()}
            self._blobs[index] = {layout.blob_key(digest): size for digest, size in parts.items()}
        return self._blobs[index]

    def _chunked(self, index: bytes, objects: Mapping[str, bytes]) -> tuple[bytes, set[str]] | None:
        """The memory that chunks make up, and the keys of their packs; None if it cannot be read."""
        parts = [part for part in parse_index(index).parts if is_chunked(part)]
        if not parts:
            return b"", set()
        there = index, frozenset(key for key in objects if key.startswith(CHUNKS))
        if there not in self._read:
            self._read[there] = _read(parts, objects)
        return self._read[there]


def _read(parts: list[Descriptor], objects: Mapping[str, bytes]) -> tuple[bytes, set[str]] | None:
    plain = MemoryStore()
    for key, data in objects.items():
        plain.put(key, data)
    store = CheckpointStore(plain, parallel_looks=1)
    try:
        memory = b"".join(piece for part in parts for piece in store.read_part(part))
        packs = store.chunks.packs_of(store.read_recipe(part) for part in parts)
    except MigratorError as error:
        return None if error.code == "chunk_missing" else (b"", set())  # there, but of no use
    finally:
        store.chunks.close()
    return memory, {layout.pack_key(pack) for pack in packs}
