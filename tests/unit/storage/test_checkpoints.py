"""Blobs first, index last, and the other way round; over a store with faults."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from migrator.errors import AlreadyExists, IntegrityError, InvalidRequest, NotFound, ResourceBusy, Unavailable
from migrator.models.descriptors import digest_bytes
from migrator.models.roles import Role
from migrator.storage import layout
from migrator.storage.checkpoints import CheckpointStore
from migrator.storage.memory import MemoryStore
from tests.unit.storage.samples import Sample

INDEX_KEY = layout.index_key("w", "c")


@pytest.fixture
def objects() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def store(objects: MemoryStore) -> CheckpointStore:
    return CheckpointStore(objects)


def blobs_in(objects: MemoryStore) -> set[str]:
    return {f"sha256:{info.key.removeprefix(layout.BLOBS)}" for info in objects.scan(layout.BLOBS)}


# ---- blobs


def test_a_blob_is_sent_once(store: CheckpointStore) -> None:
    data, seen = b"x" * 1000, []
    digest = digest_bytes(data)
    assert store.put_blob(digest, 1000, [data], seen.append) == 1000
    assert store.put_blob(digest, 1000, iter(()), seen.append) == 0
    assert sum(seen) == 2000
    assert b"".join(store.get_blob(digest, 1000)) == data


def test_a_blob_that_was_cut_short_is_sent_again(store: CheckpointStore, objects: MemoryStore) -> None:
    data = b"x" * 1000
    digest = digest_bytes(data)
    objects.put(layout.blob_key(digest), data[:10])
    assert not store.has_blob(digest, 1000)
    assert store.put_blob(digest, 1000, [data]) == 1000
    assert store.has_blob(digest, 1000)


def test_a_blob_can_be_forced(store: CheckpointStore) -> None:
    digest = digest_bytes(b"x")
    assert store.put_blob(digest, 1, [b"x"]) == 1
    assert store.put_blob(digest, 1, [b"x"], skip_existing=False) == 1


@pytest.mark.parametrize(
    ("sent", "code"), [(b"y" * 1000, "digest_mismatch"), (b"x" * 999, "size_mismatch"), (b"x" * 1001, "size_mismatch")]
)
def test_wrong_bytes_are_never_visible(store: CheckpointStore, objects: MemoryStore, sent: bytes, code: str) -> None:
    with pytest.raises(IntegrityError) as caught:
        store.put_blob(digest_bytes(b"x" * 1000), 1000, [sent])
    assert caught.value.code == code
    assert blobs_in(objects) == set()


def test_an_interrupted_upload_leaves_nothing_visible(store: CheckpointStore, objects: MemoryStore) -> None:
    objects.faults.fail_upload_after_bytes = 10
    with pytest.raises(Unavailable):
        store.put_blob(digest_bytes(b"x" * 100), 100, [b"x" * 20] * 5)
    assert blobs_in(objects) == set()


def test_corruption_is_noticed_before_the_last_piece(store: CheckpointStore, objects: MemoryStore) -> None:
    data = b"x" * (3 << 20)
    store.put_blob(digest_bytes(data), len(data), [data])
    objects.faults.corrupt = True
    got = 0
    with pytest.raises(IntegrityError) as caught:
        for piece in store.get_blob(digest_bytes(data), len(data)):
            got += len(piece)
    assert caught.value.code == "digest_mismatch"
    assert got < len(data)


def test_truncation_is_noticed(store: CheckpointStore, objects: MemoryStore) -> None:
    store.put_blob(digest_bytes(b"data"), 4, [b"data"])
    objects.faults.truncate_bytes = 1
    with pytest.raises(IntegrityError) as caught:
        list(store.get_blob(digest_bytes(b"data"), 4))
    assert caught.value.code == "size_mismatch"


# ---- seal


def test_a_sealed_checkpoint_is_read_found_and_listed(store: CheckpointStore, objects: MemoryStore) -> None:
    sample = Sample()
    digest = sample.seal(store)
    index = store.read_index("w", "c")
    assert digest == index.digest == digest_bytes(sample.index)
    assert index.part(Role.MEMORY).digest == digest_bytes(sample.memory)
    assert [index.role_of(part) for part in index.parts] == ["memory", "rw-diff", "image"]
    assert {part.digest for part in store.reachable(index)} == set(sample.blobs)
    assert [(found.workload_id, found.checkpoint_id) for found in store.sealed()] == [("w", "c")]
    assert store.find("c").workload_id == "w"
    assert objects.get("oci-layout") == b'{"imageLayoutVersion":"1.0.0"}'


def test_absent_checkpoints(store: CheckpointStore) -> None:
    for look in (lambda: store.read_index("w", "c"), lambda: store.find("c")):
        with pytest.raises(NotFound) as caught:
            look()
        assert caught.value.code == "checkpoint_not_found"


@pytest.mark.parametrize("name", ["..", "", "a/b", ".x", "é", "a" * 300])
def test_ids_are_plain(store: CheckpointStore, name: str) -> None:
    for ids in ((name, "c"), ("w", name)):
        with pytest.raises(InvalidRequest) as caught:
            store.seal(*ids, Sample().index)
        assert caught.value.code == "bad_id"


@pytest.mark.parametrize("number", range(len(Sample().blobs)))
@pytest.mark.parametrize("left", [None, b"short"])
def test_seal_refuses_a_checkpoint_with_a_blob_missing(
    store: CheckpointStore, objects: MemoryStore, number: int, left: bytes | None
) -> None:
    sample = Sample()
    sample.upload(store)
    missing = layout.blob_key(list(sample.blobs)[number])
    objects.delete(missing) if left is None else objects.put(missing, left)
    with pytest.raises((ResourceBusy, IntegrityError)) as caught:
        store.seal("w", "c", sample.index)
    # A manifest that was cut short is read, and so its digest tells.
    assert caught.value.code in ("blob_missing", "digest_mismatch")
    assert objects.head(INDEX_KEY) is None


def test_sealing_again_changes_nothing(store: CheckpointStore) -> None:
    sample = Sample()
    assert sample.seal(store) == sample.seal(store)


def test_another_index_under_the_same_id_is_refused(store: CheckpointStore) -> None:
    first, second = Sample(), Sample(memory=b"other")
    first.seal(store)
    with pytest.raises(AlreadyExists) as caught:
        second.seal(store)
    assert caught.value.code == "checkpoint_sealed"
    assert store.read_index("w", "c").digest == digest_bytes(first.index)


def test_of_two_sealers_one_wins(store: CheckpointStore) -> None:
    samples = [Sample(memory=b"one"), Sample(memory=b"two")]
    for sample in samples:
        sample.upload(store)
    start = threading.Barrier(2)

    def seal(sample: Sample) -> str | None:
        start.wait(5)
        try:
            return store.seal("w", "c", sample.index)
        except AlreadyExists:
            return None

    with ThreadPoolExecutor(2) as pool:
        winners = [digest for digest in pool.map(seal, samples) if digest]
    assert winners == [store.read_index("w", "c").digest]


class Meddled(MemoryStore):
    """Something happens in the moment an index is written."""

    meddle = staticmethod(lambda: None)

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        super().put(key, data, if_absent=if_absent)
        if key == INDEX_KEY:
            self.meddle()


def test_a_blob_lost_while_sealing_takes_the_index_out_again() -> None:
    objects, sample = Meddled(), Sample()
    objects.meddle = lambda: objects.delete(layout.blob_key(digest_bytes(sample.diff)))  # type: ignore[method-assign]
    store = CheckpointStore(objects)
    with pytest.raises(ResourceBusy) as caught:
        sample.seal(store)
    assert caught.value.code == "blob_missing"
    assert objects.head(INDEX_KEY) is None
    objects.meddle = lambda: None  # type: ignore[method-assign]
    assert sample.seal(store) == digest_bytes(sample.index)  # the same request heals it


def test_an_index_that_others_wrote_is_never_taken_out(store: CheckpointStore, objects: MemoryStore) -> None:
    sample = Sample()
    sample.seal(store)
    objects.delete(layout.blob_key(digest_bytes(sample.diff)))
    with pytest.raises(ResourceBusy):
        store.seal("w", "c", sample.index)
    assert objects.get(INDEX_KEY) == sample.index


def test_an_index_that_changed_on_its_way_is_noticed() -> None:
    objects = Meddled()
    objects.meddle = lambda: MemoryStore.put(objects, INDEX_KEY, b"{}")  # type: ignore[method-assign]
    with pytest.raises(IntegrityError) as caught:
        Sample().seal(CheckpointStore(objects))
    assert caught.value.code == "index_changed"


# ---- remove


def test_a_removed_checkpoint_leaves_its_image(store: CheckpointStore, objects: MemoryStore) -> None:
    sample = Sample()
    sample.seal(store)
    assert store.remove("w", "c") == len(sample.memory) + len(sample.diff)
    assert blobs_in(objects) == sample.image_digests
    assert list(store.sealed()) == []
    assert store.remove("w", "c") == 0


def test_an_image_goes_when_asked(store: CheckpointStore, objects: MemoryStore) -> None:
    sample = Sample()
    sample.seal(store)
    assert store.remove("w", "c", keep_image=False) == sum(map(len, sample.blobs.values()))
    assert blobs_in(objects) == set()


def test_what_others_name_stays(store: CheckpointStore, objects: MemoryStore) -> None:
    first, second = Sample(), Sample(memory=b"other memory")
    first.seal(store)
    second.seal(store, "w2", "c2")
    assert store.remove("w", "c", keep_image=False) == len(first.memory)
    assert blobs_in(objects) == set(second.blobs)
    assert store.read_index("w2", "c2").digest == digest_bytes(second.index)


def test_changed_files_that_are_a_layer_of_an_image_stay(store: CheckpointStore, objects: MemoryStore) -> None:
    own = Sample(diff=b"layer one")
    own.seal(store)
    store.remove("w", "c")
    assert blobs_in(objects) == own.image_digests
    other = Sample(layers=(b"third", b"fourth"))
    other.seal(store, "w2", "c2")
    Sample(memory=b"m", diff=b"fourth").seal(store, "w3", "c3")
    store.remove("w3", "c3")
    assert set(other.blobs) <= blobs_in(objects)


def test_an_upload_without_an_index_is_taken_out(store: CheckpointStore, objects: MemoryStore) -> None:
    kept, sample = Sample(), Sample(memory=b"half")
    kept.seal(store, "w2", "c2")
    sample.upload(store)
    assert store.remove("w", "c", candidates=[p for p in sample.parts if "image" not in p.annotations.values()]) == 4
    assert blobs_in(objects) == set(kept.blobs)


@pytest.mark.parametrize("damage", [b"{", b"[]", b'{"manifests": 3}', b"\xff", b"[" * 100_000])
def test_a_damaged_index_can_be_removed_and_hinders_nobody(
    store: CheckpointStore, objects: MemoryStore, damage: bytes
) -> None:
    sample = Sample()
    sample.seal(store)
    objects.put(layout.index_key("w2", "c2"), damage)
    assert store.remove("w", "c") > 0
    assert store.remove("w2", "c2") == 0
    assert list(store.sealed()) == []


def test_what_a_damaged_index_still_mentions_stays(store: CheckpointStore, objects: MemoryStore) -> None:
    sample = Sample()
    sample.seal(store)
    sample.seal(store, "w2", "c2")
    objects.put(layout.index_key("w2", "c2"), sample.index[:-5])
    assert store.remove("w", "c") == 0
    assert blobs_in(objects) == set(sample.blobs)


def test_what_hangs_below_a_damaged_manifest_stays(store: CheckpointStore, objects: MemoryStore) -> None:
    sample = Sample()
    sample.seal(store)
    sample.seal(store, "w2", "c2")
    for digest, data in sample.blobs.items():
        if b'"layers"' in data:
            objects.put(layout.blob_key(digest), data[:-1])
    store.remove("w", "c", keep_image=False)
    assert blobs_in(objects) == set(sample.blobs)


def test_the_index_goes_first(store: CheckpointStore, objects: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    Sample().seal(store)
    gone: list[str] = []
    delete = objects.delete

    def noted(key: str) -> None:
        gone.append(key)
        delete(key)

    monkeypatch.setattr(objects, "delete", noted)
    store.remove("w", "c")
    assert gone[0] == INDEX_KEY
    assert len(gone) >= 3
    assert all(key.startswith("blobs/") for key in gone[1:-1])
    assert gone[-1] == "prune/doomed/c", "until then nobody may rely on them"


def test_nothing_is_removed_when_others_cannot_be_read(
    store: CheckpointStore, objects: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = Sample()
    sample.seal(store)
    sample.seal(store, "w2", "c2")

    def away(_prefix: str) -> None:
        raise Unavailable("away", code="store_unavailable")

    with monkeypatch.context() as patched, pytest.raises(Unavailable):
        patched.setattr(objects, "scan", away)
        store.remove("w", "c")
    assert blobs_in(objects) == set(sample.blobs)


def test_an_unavailable_store_says_so(store: CheckpointStore, objects: MemoryStore) -> None:
    sample = Sample()
    sample.seal(store)
    objects.faults.unavailable = True
    for use in (lambda: store.read_index("w", "c"), lambda: sample.seal(store), lambda: store.remove("w", "c")):
        with pytest.raises(Unavailable):
            use()
