"""A checkpoint whose index nobody of us signed, for this checkpoint, is refused; over plain and encrypted stores."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from migrator.errors import IntegrityError
from migrator.models.descriptors import digest_bytes
from migrator.storage import layout
from migrator.storage.archive import export_archive
from migrator.storage.checkpoints import CheckpointStore
from migrator.storage.encryption.names import NameCipher
from migrator.storage.encryption.ring import KeyRing, new_ring
from migrator.storage.encryption.signatures import Signatures
from migrator.storage.memory import MemoryStore
from tests.unit.storage.encryption.samples import checkpoints_over, contents, source_of
from tests.unit.storage.samples import Sample


@pytest.fixture
def ring() -> KeyRing:
    return new_ring()


@pytest.fixture
def objects() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def store(objects: MemoryStore, ring: KeyRing) -> CheckpointStore:
    """Signed and not encrypted: whoever holds the store can write whole objects."""
    return CheckpointStore(objects, signatures=Signatures(source_of(ring)))


def refused(store: CheckpointStore, checkpoint_id: str = "c") -> str:
    """The code with which every way to a checkpoint refuses it."""
    codes = set()
    for use in (
        lambda: store.read_index("w", checkpoint_id),
        lambda: store.read_index_bytes("w", checkpoint_id),
        lambda: list(export_archive(store, "w", checkpoint_id)),
    ):
        with pytest.raises(IntegrityError) as caught:
            use()
        assert caught.value.remedy
        codes.add(caught.value.code)
    (code,) = codes
    return code


def test_what_is_sealed_is_signed_and_read(store: CheckpointStore, objects: MemoryStore) -> None:
    sample = Sample()
    digest = sample.seal(store)
    assert store.read_index_bytes("w", "c") == sample.index
    assert objects.head(layout.signature_key("w", "c", digest)) is not None
    assert [sealed.checkpoint_id for sealed in store.sealed()] == ["c"]


def test_an_index_of_another_checkpoint_is_refused(store: CheckpointStore, objects: MemoryStore) -> None:
    first, second = Sample(memory=b"one"), Sample(memory=b"two")
    digest = first.seal(store, checkpoint_id="c")
    second.seal(store, checkpoint_id="d")
    objects.put(layout.index_key("w", "d"), first.index)
    assert refused(store, "d") == "signature_missing"
    objects.put(layout.signature_key("w", "d", digest), objects.get(layout.signature_key("w", "c", digest)))
    assert refused(store, "d") == "signature_invalid"
    assert store.read_index("w", "c").digest == digest


@pytest.mark.parametrize("place", [0, 40, -1])
def test_a_changed_index_is_refused(store: CheckpointStore, objects: MemoryStore, place: int) -> None:
    Sample().seal(store)
    changed = bytearray(Sample().index)
    changed[place] ^= 1
    objects.put(layout.index_key("w", "c"), bytes(changed))
    assert refused(store) == "signature_missing"
    old = layout.signature_key("w", "c", digest_bytes(Sample().index))
    objects.put(layout.signature_key("w", "c", digest_bytes(bytes(changed))), objects.get(old))
    assert refused(store) == "signature_invalid"


@pytest.mark.parametrize("document", [b"", b"{}", b"[]", b"nonsense", b'{"version":1,"key":"k-1","signature":"!"}'])
def test_a_malformed_signature_is_refused(store: CheckpointStore, objects: MemoryStore, document: bytes) -> None:
    digest = Sample().seal(store)
    objects.put(layout.signature_key("w", "c", digest), document)
    assert refused(store) == "signature_invalid"


def test_any_changed_byte_of_a_signature_is_refused(store: CheckpointStore, objects: MemoryStore) -> None:
    key = layout.signature_key("w", "c", Sample().seal(store))
    document = objects.get(key)
    start = document.index(b'"signature"') + len(b'"signature": "')
    for place in range(start, len(document) - 5):
        objects.put(key, document[:place] + bytes([document[place] ^ 1]) + document[place + 1 :])
        with pytest.raises(IntegrityError):
            store.read_index("w", "c")


def test_signed_by_a_stranger(store: CheckpointStore, objects: MemoryStore) -> None:
    digest = Sample().seal(store)
    stranger = Signatures(source_of(new_ring()))
    objects.put(layout.signature_key("w", "c", digest), stranger.sign("w", "c", digest))
    assert refused(store) == "signature_key_unknown"


def test_one_from_before_there_were_keys(objects: MemoryStore, store: CheckpointStore, ring: KeyRing) -> None:
    Sample().seal(CheckpointStore(objects))
    assert refused(store) == "signature_missing"
    lenient = CheckpointStore(objects, signatures=Signatures(source_of(ring), accept_missing=True))
    assert lenient.read_index_bytes("w", "c") == Sample().index


def test_sealing_again_signs_again(objects: MemoryStore, store: CheckpointStore) -> None:
    digest = Sample().seal(store)
    objects.delete(layout.signature_key("w", "c", digest))
    assert Sample().seal(store) == digest
    assert store.read_index("w", "c").digest == digest


def test_a_removed_checkpoint_leaves_no_signature(objects: MemoryStore, store: CheckpointStore) -> None:
    Sample().seal(store)
    store.remove("w", "c", keep_image=False)
    assert set(contents(objects)) == {layout.OCI_LAYOUT}


def test_a_signature_whose_index_was_never_written_or_is_gone_is_found(
    objects: MemoryStore, store: CheckpointStore
) -> None:
    digest, later = Sample().seal(store), datetime.now(UTC) + timedelta(minutes=1)
    assert store.orphaned_signatures(later) == []
    objects.delete(layout.index_key("w", "c"))
    assert store.orphaned_signatures(datetime.now(UTC) - timedelta(days=1)) == []
    assert store.orphaned_signatures(later) == [layout.signature_key("w", "c", digest)]


def test_an_index_that_cannot_be_read_keeps_all_blobs_and_nobody_from_ending(
    objects: MemoryStore, ring: KeyRing
) -> None:
    store = checkpoints_over(objects, ring)
    Sample().seal(store, checkpoint_id="c")
    known = set(contents(objects))
    Sample(memory=b"other").seal(store, checkpoint_id="d")
    hidden = layout.ENCRYPTED + NameCipher(ring.names_key).hide(layout.index_key("w", "d"))
    assert hidden not in known
    objects.put(hidden, objects.get(hidden)[:-1] + b"?")
    assert store.remove("w", "c", keep_image=False) == 0
    assert all(store.has_blob(digest, len(data)) for digest, data in Sample().blobs.items())
    assert [sealed.checkpoint_id for sealed in store.sealed()] == ["d"]


def test_an_unsigned_index_still_protects_its_blobs(objects: MemoryStore, store: CheckpointStore) -> None:
    """Damage must not widen: what only looks wrong may be somebody's last copy."""
    Sample().seal(store, checkpoint_id="c")
    Sample().seal(CheckpointStore(objects), checkpoint_id="old")
    store.remove("w", "c", keep_image=False)
    assert all(store.has_blob(digest, len(data)) for digest, data in Sample().blobs.items())


def test_encrypted_and_signed(objects: MemoryStore, ring: KeyRing) -> None:
    store = checkpoints_over(objects, ring)
    sample = Sample()
    sample.upload(store.writing("c"))
    store.writing("c").seal("w", "c", sample.index)
    assert checkpoints_over(objects, ring).read_index_bytes("w", "c") == sample.index
    (memory, *_) = sample.parts
    assert b"".join(store.get_blob(memory.digest, memory.size_bytes)) == sample.memory
    store.remove("w", "c", keep_image=False)
    assert [info.key for info in store.objects.scan("")] == [layout.OCI_LAYOUT]
