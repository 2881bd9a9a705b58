"""Parts as backups write them: cut by content, sealed under an index."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Iterator, Mapping

from migrator.errors import Unavailable
from migrator.models.descriptors import Descriptor, digest_bytes
from migrator.models.roles import Role
from migrator.storage.checkpoints import CheckpointStore
from migrator.storage.chunks import Written, cut_by_content
from migrator.storage.memory import MemoryStore
from migrator.storage.oci import INDEX_TYPES, with_role
from migrator.storage.store import ObjectStore, Progress

PART = "application/x-part"
KIB = 1 << 10
MIB = 1 << 20


class DyingStore(MemoryStore):
    """Dies at the n-th change, before or after it was made, and stays dead until it is revived."""

    def __init__(self) -> None:
        super().__init__()
        self.dies_at: int | None = None
        self.after = False
        self.changes = 0

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        self._count(lambda: super(DyingStore, self).put(key, data, if_absent=if_absent))

    def upload(
        self, key: str, chunks: Iterable[bytes], *, size_bytes: int, digest: str, on_progress: Progress | None = None
    ) -> None:
        data = b"".join(chunks)
        self._count(lambda: MemoryStore.put(self, key, data))

    def delete(self, key: str) -> bool:
        self._count(lambda: super(DyingStore, self).delete(key))
        return True

    def _count(self, act: Callable[[], object]) -> None:
        self.changes += 1
        dies = self.dies_at is not None and self.changes >= self.dies_at
        if not dies or (self.after and self.changes == self.dies_at):
            act()
        if dies:
            raise Unavailable("the machine died", code="store_unavailable")


def some_bytes(size_bytes: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size_bytes)


def pieces_of(data: bytes, piece_bytes: int = 100_003) -> Iterator[bytes]:
    for start in range(0, len(data), piece_bytes):
        yield data[start : start + piece_bytes]


def write(
    store: CheckpointStore, data: Mapping[Role, bytes], *, with_digest: bool = False
) -> tuple[list[Descriptor], Written]:
    """Write parts as chunks; return what stands in an index."""
    with store.chunks.writing() as writer:
        parts = [
            store.put_chunked(
                writer,
                with_role(Descriptor(PART, digest_bytes(text) if with_digest else "", 0), role),
                cut_by_content(pieces_of(text)),
            )
            for role, text in data.items()
        ]
    return [store.put_recipe(part)[0] for part in parts], writer.written


def write_one(store: CheckpointStore, data: bytes, *, with_digest: bool = False) -> Descriptor:
    (found,), _ = write(store, {Role.MEMORY: data}, with_digest=with_digest)
    return found


def index_of(parts: list[Descriptor], name: str = "", **facts: str) -> bytes:
    document = {
        "schemaVersion": 2,
        "mediaType": INDEX_TYPES[0],
        "manifests": [part.to_oci() for part in parts],
        "annotations": {"io.migrator.container": name or "demo"} | {f"io.migrator.{key}": facts[key] for key in facts},
    }
    return json.dumps(document, sort_keys=True).encode()


def read(store: CheckpointStore, part: Descriptor) -> bytes:
    return b"".join(store.read_part(part))


def stored_bytes(objects: ObjectStore) -> int:
    return sum(info.size_bytes for info in objects.scan(""))


def keys(objects: ObjectStore, prefix: str = "") -> list[str]:
    return [info.key for info in objects.scan(prefix)]
