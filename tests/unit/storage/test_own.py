"""What a job has written for itself: nobody else relies on it, it goes with its checkpoint, and stays with it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from migrator.errors import ResourceBusy, Unavailable
from migrator.models.descriptors import Descriptor
from migrator.models.roles import Role
from migrator.storage import layout
from migrator.storage.checkpoints import CheckpointStore
from migrator.storage.chunks import cut_by_content
from migrator.storage.oci import with_role
from migrator.storage.own import OwnContent
from migrator.storage.prune.notes import PruneLock
from migrator.storage.prune.plan import Cutoff
from migrator.storage.prune.pruner import Pruner
from migrator.storage.store import SMALL_BYTES, ObjectInfo
from tests.unit.storage.chunked import KIB, PART, DyingStore, index_of, pieces_of, some_bytes

JOB = "mig-1"
MEMORY = some_bytes(900 * KIB)


def send(
    store: CheckpointStore, data: bytes, job: str = JOB, own: tuple[str, ...] = ()
) -> tuple[Descriptor, tuple[str, ...]]:
    part = with_role(Descriptor(PART, "", 0), Role.MEMORY)
    with store.chunks.writing(job, own) as writer:
        written = store.put_chunked(writer, part, cut_by_content(pieces_of(data)))
    return store.put_recipe(written, job)[0], (*own, *filter(None, [writer.written.index]))


def keys(store: DyingStore) -> set[str]:
    return set(store._objects)


def kept(objects: DyingStore) -> CheckpointStore:
    return CheckpointStore(objects, parallel_looks=1)


def test_a_round_after_another_sends_only_what_changed() -> None:
    store = CheckpointStore(DyingStore())
    _, own = send(store, MEMORY)
    before = sum(info.size_bytes for info in store.objects.scan(layout.PACKS))
    send(store, MEMORY[: 800 * KIB] + some_bytes(100 * KIB, 2), own=own)
    added = sum(info.size_bytes for info in store.objects.scan(layout.PACKS)) - before
    assert added < 250 * KIB


def test_nobody_else_relies_on_what_is_a_jobs_own() -> None:
    store = CheckpointStore(DyingStore())
    send(store, MEMORY)
    before = sum(info.size_bytes for info in store.objects.scan(layout.PACKS))
    part, _ = send(store, MEMORY, "")
    assert sum(info.size_bytes for info in store.objects.scan(layout.PACKS)) > before + len(MEMORY)
    OwnContent(store, JOB).withdraw("web", "ck-1", [])
    assert b"".join(store.read_part(part)) == MEMORY
    store.seal("web", "ck-2", index_of([part]))


def test_another_cannot_seal_what_is_a_jobs_own() -> None:
    store = CheckpointStore(DyingStore())
    part, own = send(store, MEMORY)
    with pytest.raises(ResourceBusy):
        store.seal("web", "ck-2", index_of([part]))
    store.seal("web", "ck-1", index_of([part]), own=own)
    assert b"".join(CheckpointStore(store.objects).read_part(part)) == MEMORY


def test_it_goes_with_its_checkpoint() -> None:
    objects = DyingStore()
    store = CheckpointStore(objects)
    part, own = send(store, MEMORY)
    store.seal("web", "ck-1", index_of([part]), own=own)
    OwnContent(store, JOB).withdraw("web", "ck-1", [])
    assert keys(objects) == {layout.OCI_LAYOUT}


def test_it_stays_with_its_checkpoint_and_others_rely_on_it() -> None:
    objects = DyingStore()
    store = CheckpointStore(objects)
    _, own = send(store, some_bytes(900 * KIB, 5))
    part, own = send(store, MEMORY, own=own)
    store.seal("web", "ck-1", index_of([part]), own=own)
    OwnContent(store, JOB).keep()
    assert not list(objects.scan("prune/"))
    other = CheckpointStore(objects)
    assert b"".join(other.read_part(part)) == MEMORY
    again, _ = send(other, MEMORY, "")
    other.seal("web", "ck-2", index_of([again]))
    assert sum(info.size_bytes for info in objects.scan(layout.PACKS)) < 2000 * KIB


@pytest.mark.parametrize("stays", [False, True], ids=["withdrawn", "kept"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_whatever_change_was_the_last_nothing_is_lost_and_nothing_is_left(stays: bool, after: bool) -> None:
    for number in range(1, 100):
        objects = DyingStore()
        _, own = send(kept(objects), some_bytes(300 * KIB, 5))
        part, own = send(kept(objects), MEMORY, own=own)
        kept(objects).seal("web", "ck-1", index_of([part]), own=own)
        objects.dies_at, objects.after = objects.changes + number, after
        try:
            finish(objects, stays=stays)
            break
        except Unavailable:
            objects.dies_at = None
        finish(objects, stays=stays)
        check(objects, part, stays=stays)
    else:
        pytest.fail("it never ends")
    assert number > 4


def finish(objects: DyingStore, *, stays: bool) -> None:
    own = OwnContent(kept(objects), JOB)
    if stays:
        own.keep()
    else:
        own.withdraw("web", "ck-1", [])


def check(objects: DyingStore, part: Descriptor, *, stays: bool) -> None:
    if not stays:
        assert keys(objects) == {layout.OCI_LAYOUT}
        return
    assert b"".join(kept(objects).read_part(part)) == MEMORY
    assert not list(objects.scan("prune/"))


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_writer_that_dies_anywhere_leaves_nothing_that_its_job_does_not_find(after: bool) -> None:
    for number in range(1, 100):
        objects = DyingStore()
        objects.dies_at, objects.after = number, after
        try:
            send(kept(objects), MEMORY)
            break
        except Unavailable:
            objects.dies_at = None
        OwnContent(kept(objects), JOB).withdraw("web", "ck-1", [])
        assert keys(objects) == set()
    assert number > 3


@pytest.mark.parametrize("name", ["pack", "pack index"])
def test_what_the_store_cut_short_is_not_relied_on(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = DyingStore()
    place, put_hashed = (layout.PACKS if name == "pack" else layout.PACK_INDEXES), objects.put_hashed

    def cut(key: str, data: bytes, digest: str) -> None:
        put_hashed(key, data[:-1] if key.startswith(place) else data, digest)

    monkeypatch.setattr(objects, "put_hashed", cut)
    with pytest.raises(Unavailable, match=name):
        send(kept(objects), MEMORY)


def test_a_prune_leaves_alone_what_a_job_under_way_has_written_for_itself() -> None:
    objects = DyingStore()
    store = kept(objects)
    part, own = send(store, MEMORY)
    before = keys(objects)
    long_ago = datetime.now(UTC) - timedelta(hours=1)  # the job began since then
    Pruner(kept(objects)).run(Cutoff(long_ago, long_ago), PruneLock(objects, "prune"))
    store.seal("web", "ck-1", index_of([part]), own=own)
    Pruner(kept(objects)).run(Cutoff(long_ago, long_ago), PruneLock(objects, "prune"))
    assert before <= keys(objects)


def test_a_prune_takes_the_marks_of_a_job_that_is_over_from_what_is_needed_and_frees_the_rest() -> None:
    objects = DyingStore()
    store = kept(objects)
    send(store, some_bytes(900 * KIB, 5), "mig-0")
    part, own = send(store, MEMORY)
    store.seal("web", "ck-1", index_of([part]), own=own)
    now = datetime.now(UTC) + timedelta(seconds=1)
    Pruner(kept(objects)).run(Cutoff(now, now), PruneLock(objects, "prune"))
    Pruner(kept(objects)).run(Cutoff(now, now), PruneLock(objects, "prune"))
    assert not list(objects.scan(layout.PACK_MARKS))
    assert sum(info.size_bytes for info in objects.scan(layout.PACKS)) < 1000 * KIB
    assert b"".join(kept(objects).read_part(part)) == MEMORY


class Counted(DyingStore):
    """Notes every request."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, str]] = []

    def head(self, key: str) -> ObjectInfo | None:
        self.asked.append(("head", key.rpartition("/")[0]))
        return super().head(key)

    def get(self, key: str, limit_bytes: int = SMALL_BYTES) -> bytes:
        self.asked.append(("get", key.rpartition("/")[0]))
        return super().get(key, limit_bytes)

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        self.asked.append(("put", key.rpartition("/")[0]))
        super().put(key, data, if_absent=if_absent)

    def scan(self, prefix: str) -> Iterator[ObjectInfo]:
        self.asked.append(("scan", prefix.rstrip("/")))
        return super().scan(prefix)


def test_what_is_sent_in_the_freeze_is_not_looked_for_and_is_looked_at_once() -> None:
    objects = Counted()
    store = kept(objects)
    _, own = send(store, MEMORY)
    objects.asked.clear()
    part, own = send(store, MEMORY[: 800 * KIB] + some_bytes(100 * KIB, 2), own=own)
    assert objects.asked == [
        ("put", "prune/packs"),
        ("put", "chunks/packs"),
        ("head", "chunks/packs"),
        ("put", "chunks/pack-indexes"),
        ("get", "chunks/pack-indexes"),
        ("put", "prune/blobs"),
        ("put", "blobs/sha256"),
        ("head", "blobs/sha256"),
    ]
    objects.asked.clear()
    store.seal("web", "ck-1", index_of([part]), packs=(), own=own, sent_just_now=True)
    assert objects.asked == [
        ("put", ""),  # oci-layout, once
        ("put", "checkpoints/web/ck-1"),
        ("get", "checkpoints/web/ck-1"),
        ("scan", "prune/doomed"),
        ("head", "blobs/sha256"),
    ]


def test_a_round_that_was_forgotten_is_found_out_from_the_store() -> None:
    objects = DyingStore()
    store = kept(objects)
    _, own = send(store, MEMORY)
    store.chunks.forget(JOB)
    before = sum(info.size_bytes for info in objects.scan(layout.PACKS))
    part, own = send(store, MEMORY, own=own)
    assert sum(info.size_bytes for info in objects.scan(layout.PACKS)) == before
    store.seal("web", "ck-1", index_of([part]), own=own)


def test_a_round_relies_on_what_the_last_one_found_and_the_seal_sees_when_that_goes() -> None:
    objects = DyingStore()
    store = kept(objects)
    send(store, MEMORY, "")  # of a backup
    _, own = send(store, MEMORY)
    assert own == ()
    with store.chunks.writing(JOB, own) as writer:
        written = store.put_chunked(writer, with_role(Descriptor(PART, "", 0), Role.MEMORY), [])
        assert writer.written.relied_on
    part, _ = store.put_recipe(written, JOB)
    (pack,) = [info.key.removeprefix(layout.PACKS) for info in objects.scan(layout.PACKS)]
    objects.put(layout.pack_mark_key(pack), b"")  # a prune takes it
    with pytest.raises(ResourceBusy, match="pack"):
        store.seal("web", "ck-1", index_of([part]), packs=writer.written.relied_on, own=own, sent_just_now=True)
    assert not list(store.sealed())
    store.chunks.forget(JOB)
    part, own = send(store, MEMORY)
    assert own != ()
    store.seal("web", "ck-1", index_of([part]), own=own)
