"""Rings and stores of the tests."""

from __future__ import annotations

from migrator.storage.checkpoints import CheckpointStore
from migrator.storage.encryption.ring import KeyRing, new_ring, write_ring
from migrator.storage.encryption.signatures import Signatures
from migrator.storage.encryption.source import RingText
from migrator.storage.encryption.store import EncryptedStore
from migrator.storage.memory import MemoryStore
from migrator.storage.store import ObjectStore


def source_of(ring: KeyRing) -> RingText:
    return RingText(write_ring(ring))


def encrypted(inner: ObjectStore, ring: KeyRing | None = None) -> EncryptedStore:
    return EncryptedStore(inner, source_of(ring or new_ring()))


def checkpoints_over(inner: ObjectStore, ring: KeyRing, *, accept_missing: bool = False) -> CheckpointStore:
    signatures = Signatures(source_of(ring), accept_missing=accept_missing)
    return CheckpointStore(encrypted(inner, ring), signatures=signatures)


def contents(inner: MemoryStore) -> dict[str, bytes]:
    return {info.key: inner.get(info.key, 1 << 30) for info in inner.scan("")}
