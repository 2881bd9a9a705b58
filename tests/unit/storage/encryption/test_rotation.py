"""Rotation dies at any write: everything stays readable, and the next try finishes it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from migrator.errors import NotFound, PermissionDenied, PreconditionFailed, Unavailable
from migrator.models.descriptors import digest_bytes
from migrator.storage.checkpoints import CheckpointStore
from migrator.storage.encryption.ring import new_ring
from migrator.storage.encryption.rotation import KeyKeeper, activate_key, prepare_key, retire_key
from migrator.storage.encryption.signatures import Signatures
from migrator.storage.encryption.source import RingFile, RingSource
from migrator.storage.encryption.store import EncryptedStore
from migrator.storage.memory import MemoryStore
from tests.unit.storage.encryption.samples import source_of
from tests.unit.storage.samples import Sample

CHECKPOINTS = ("c1", "c2", "c3")


class DyingStore(MemoryStore):
    """Dies at the n-th write."""

    def __init__(self) -> None:
        super().__init__()
        self.writes_left: int | None = None

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        if self.writes_left is not None:
            if self.writes_left == 0:
                raise Unavailable("dead", code="store_unavailable")
            self.writes_left -= 1
        super().put(key, data, if_absent=if_absent)


def sample(checkpoint_id: str) -> Sample:
    return Sample(memory=checkpoint_id.encode())


def opened(objects: MemoryStore, source: RingSource) -> CheckpointStore:
    return CheckpointStore(EncryptedStore(objects, source), signatures=Signatures(source))


def check_readable(objects: MemoryStore, source: RingSource) -> None:
    store = opened(objects, source)
    for checkpoint_id in CHECKPOINTS:
        index = store.read_index("w", checkpoint_id)
        data = {part.digest: b"".join(store.get_blob(part.digest, part.size_bytes)) for part in store.reachable(index)}
        assert data == sample(checkpoint_id).blobs


@pytest.fixture
def file(tmp_path: Path) -> RingFile:
    file = RingFile(tmp_path / "keys.json")
    file.create(new_ring())
    return file


@pytest.fixture
def objects(file: RingFile) -> DyingStore:
    objects = DyingStore()
    for checkpoint_id in CHECKPOINTS:
        writing = opened(objects, file).writing(checkpoint_id)
        sample(checkpoint_id).seal(writing, checkpoint_id=checkpoint_id)
    return objects


def keeper(objects: MemoryStore, source: RingSource) -> KeyKeeper:
    return KeyKeeper(source, opened(objects, source))


def test_a_new_key_takes_over_and_the_old_one_goes(file: RingFile, objects: DyingStore) -> None:
    old = file.current().active_id
    size_before = {info.key: info.modified_at for info in objects.scan("encrypted/")}
    new = activate_key(file)
    done = keeper(objects, file).rewrap()
    assert (done.active_id, done.data_keys, done.signatures, done.refused) == (new.id, 3, 3, ())
    kept = [name for name, at in size_before.items() if (found := objects.head(name)) and found.modified_at == at]
    assert len(kept) == len(size_before) - 3  # the signatures alone were written again
    retire_key(file, old, keeper(objects, file))
    assert [key.id for key in file.current().keys] == [new.id]
    check_readable(objects, file)


def test_a_rotation_that_dies_at_any_write(file: RingFile, objects: DyingStore) -> None:
    old = file.current().active_id
    activate_key(file)
    deaths = 0
    while True:
        objects.writes_left = 1 if deaths == 0 else 2  # the note of the active key is one of them
        try:
            keeper(objects, file).rewrap()
        except Unavailable:
            deaths += 1
            check_readable(objects, file)
            with pytest.raises(PreconditionFailed) as caught:
                retire_key(file, old, keeper(objects, file))
            assert caught.value.code == "key_in_use"
        else:
            break
    assert deaths >= 6  # three data keys and three signatures
    objects.writes_left = None
    retire_key(file, old, keeper(objects, file))
    check_readable(objects, file)


def test_a_key_that_is_needed_is_not_retired(file: RingFile, objects: DyingStore) -> None:
    old = file.current().active_id
    with pytest.raises(PreconditionFailed) as caught:
        retire_key(file, old, keeper(objects, file))
    assert caught.value.code == "key_active"
    activate_key(file)
    with pytest.raises(PreconditionFailed) as caught:
        retire_key(file, old, keeper(objects, file))
    assert caught.value.code == "key_in_use"
    assert "rewrap" in str(caught.value.remedy)
    with pytest.raises(NotFound):
        retire_key(file, "k-nothing", keeper(objects, file))
    assert file.current().knows(old)


def test_a_prepared_key_is_known_before_it_is_used(file: RingFile, objects: DyingStore) -> None:
    prepared = prepare_key(file)
    host = source_of(file.current())  # a host that got the ring now and not again
    assert file.current().active_id != prepared.id
    assert activate_key(file).id == prepared.id
    keeper(objects, file).rewrap()
    check_readable(objects, host)
    sample("c1").seal(opened(objects, host).writing("c4"), checkpoint_id="c4")
    assert keeper(objects, file).usage().data_keys == {prepared.id: 5}  # what the store says; one is for signatures


def test_a_host_with_an_old_ring_is_refused_before_it_begins(file: RingFile, objects: DyingStore) -> None:
    stale = source_of(file.current())
    activate_key(file)
    keeper(objects, file).rewrap()
    store = opened(objects, stale)
    for use in (store.objects.probe, lambda: store.writing("c4")):
        with pytest.raises(PermissionDenied) as caught:
            use()
        assert caught.value.code == "store_key_unknown"
        assert "migrator keys rotate" in str(caught.value.remedy) or "key ring" in str(caught.value.remedy)


def test_a_worker_sees_a_new_file_without_a_restart(file: RingFile, objects: DyingStore) -> None:
    store = opened(objects, file)
    store.read_index("w", "c1")
    other = RingFile(file.path)
    activate_key(other)
    keeper(objects, other).rewrap()
    retire_key(other, other.current().keys[0].id, keeper(objects, other))
    sample("c1").seal(store.writing("c4"), checkpoint_id="c4")
    check_readable(objects, file)


def test_data_keys_of_checkpoints_that_are_gone_are_swept(file: RingFile, objects: DyingStore) -> None:
    store = opened(objects, file)
    store.put_blob(digest_bytes(b"image"), 5, [b"image"])  # under the general key
    store.remove("w", "c1", keep_image=False)
    store.remove("w", "c2", keep_image=False)
    now = datetime.now(UTC)
    assert keeper(objects, file).sweep(now) == 0  # somebody may be about to use them
    later = now + timedelta(days=8)
    assert keeper(objects, file).sweep(later) == 1  # what c1 and c3 share was written by c1
    assert keeper(objects, file).sweep(later) == 0
    assert len(list(objects.scan("keys/data/"))) == 3
    index = opened(objects, file).read_index("w", "c3")
    for part in opened(objects, file).reachable(index):
        assert len(b"".join(opened(objects, file).get_blob(part.digest, part.size_bytes))) == part.size_bytes


def test_a_forged_index_gets_no_signature_by_rotation(file: RingFile, objects: DyingStore) -> None:
    stranger = CheckpointStore(EncryptedStore(objects, file))
    sample("forged").seal(stranger, checkpoint_id="forged")
    activate_key(file)
    assert keeper(objects, file).rewrap().refused == ("forged",)
