"""Prune: frees what it says, touches nothing that a checkpoint needs, whoever uploads and wherever it dies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from migrator.errors import IntegrityError, InvalidRequest, PermissionDenied, ResourceBusy
from migrator.models.phase import JobKind, Phase
from migrator.models.retention import ForgetRequest, PruneRequest, RetentionPolicy, VerifyRequest
from migrator.models.roles import Role
from migrator.models.values import Job, JobRequest
from migrator.storage import layout
from migrator.storage.checkpoints import CheckpointStore
from migrator.storage.encryption.ring import new_ring
from migrator.storage.encryption.store import EncryptedStore
from migrator.storage.prune import pruner
from migrator.storage.prune.notes import PruneLock, doom
from migrator.storage.prune.pruner import MERGE_FROM
from migrator.storage.store import SMALL_BYTES
from tests.unit.service.retention.bench import Bench, Died
from tests.unit.storage.chunked import index_of, some_bytes, write
from tests.unit.storage.encryption.samples import source_of
from tests.unit.storage.samples import Sample

DAY_S = 86400.0
SHARED = some_bytes(60_000, 99)


def back_up(bench: Bench, checkpoint_id: str, seed: int, hours_ago: float = 0) -> None:
    """Seal a checkpoint in chunks; a part of it is like that of every other."""
    parts, _ = write(bench.checkpoints, {Role.MEMORY: some_bytes(40_000, seed) + SHARED, Role.RW_DIFF: b"diff"})
    digest = bench.checkpoints.seal("web-1", checkpoint_id, index_of(parts, checkpoint_id))
    bench.list_checkpoint(checkpoint_id, digest, hours_ago=hours_ago)


@pytest.fixture
def bench() -> Bench:
    """Two plain checkpoints and three in chunks, of which one each is kept."""
    bench = Bench()
    fill(bench)
    return bench


def fill(bench: Bench) -> None:
    bench.keep("plain-1", hours_ago=4)
    bench.keep("plain-2", hours_ago=3)
    back_up(bench, "chunked-1", 1, hours_ago=2)
    back_up(bench, "chunked-2", 2, hours_ago=1)
    back_up(bench, "chunked-3", 3, hours_ago=1.5)
    bench.forget("plain-1", "chunked-1", "chunked-3")


def report(job: Job) -> dict[str, int]:
    assert job.phase is Phase.SUCCEEDED, job.failure
    found: dict[str, int] = job.facts["pruned"]
    return found


def check(bench: Bench) -> None:
    """What holds at any time: every listed checkpoint restores."""
    for checkpoint_id in bench.listed():
        assert bench.restores(checkpoint_id), checkpoint_id


def unneeded(bench: Bench) -> tuple[int, int]:
    """What a prune would still find, now or later: blobs and packs."""
    plan = report(bench.prune(dry_run=True))
    return plan["blobs"] + plan["packs"] + plan["marked"] + plan["unmarked"], plan["young"]


def test_it_frees_what_it_says_at_the_second_run(bench: Bench) -> None:
    before = bench.objects.sizes()
    first = report(bench.prune())
    assert (first["blobs"], first["packs"], first["freed_bytes"]) == (0, 0, 0)
    assert first["marked"] > 2
    plan = report(bench.prune(dry_run=True))
    blobs_and_packs = bench.objects.sizes(layout.BLOBS) + bench.objects.sizes(layout.PACKS)
    second = report(bench.prune())
    freed = blobs_and_packs - bench.objects.sizes(layout.BLOBS) - bench.objects.sizes(layout.PACKS)
    assert plan["planned_bytes"] == second["planned_bytes"] == second["freed_bytes"] == freed > 0
    assert bench.objects.sizes() < before
    assert bench.listed() == ["chunked-2", "plain-2"]
    check(bench)
    assert [info.key for info in bench.objects.scan("prune/")] == []
    assert unneeded(bench) == (0, 0)


def test_a_dry_run_writes_nothing(bench: Bench) -> None:
    before = {info.key: info.size_bytes for info in bench.objects.scan("")}
    bench.prune(dry_run=True)
    assert {info.key: info.size_bytes for info in bench.objects.scan("")} == before


def test_nothing_goes_before_its_grace_time(bench: Bench) -> None:
    young = report(bench.prune(DAY_S))
    assert (young["marked"], young["young"] > 2) == (0, True)
    bench.now += timedelta(days=1)
    assert report(bench.prune(DAY_S))["marked"] > 2
    bench.now += timedelta(hours=20)
    assert report(bench.prune(DAY_S))["freed_bytes"] == 0
    bench.now += timedelta(hours=5)
    assert report(bench.prune(DAY_S))["freed_bytes"] > 0
    assert unneeded(bench) == (0, 0)
    check(bench)


def test_a_job_under_way_keeps_what_it_may_rely_on(bench: Bench) -> None:
    request = JobRequest(JobKind.CHECKPOINT, source_host="alpha", container="web")
    job = Job("chk-1", request, Phase.UPLOADING, 1, bench.now, bench.now)
    with bench.database.transaction() as tx:
        tx.jobs.add(job)
    bench.prune()
    bench.prune()
    assert report(bench.prune())["freed_bytes"] == 0
    with bench.database.transaction() as tx:
        job = tx.jobs.get("chk-1")
        tx.jobs.save(job, replace(job, phase=Phase.SUCCEEDED, finished_at=bench.now))
    bench.prune()
    assert report(bench.prune())["freed_bytes"] > 0
    check(bench)


def test_who_finds_a_marked_blob_takes_the_mark_away(bench: Bench) -> None:
    bench.prune()
    again = Sample(memory=b"memory of plain-1")
    again.seal(bench.checkpoints, "web-1", "plain-3")
    assert report(bench.prune())["unmarked"] == 0
    check(bench)
    for part in bench.checkpoints.reachable(bench.checkpoints.read_index("web-1", "plain-3")):
        assert b"".join(bench.checkpoints.get_blob(part.digest, part.size_bytes)) == again.blobs[part.digest]


def test_mostly_unused_packs_are_written_anew(bench: Bench) -> None:
    """Of the first backup's pack only what both share is needed: less than all, and more than nothing."""
    small = Bench()
    parts, _ = write(small.checkpoints, {Role.MEMORY: some_bytes(900_000, 5) + SHARED})
    small.list_checkpoint("big", small.checkpoints.seal("web-1", "big", index_of(parts, "big")), hours_ago=2)
    parts, _ = write(small.checkpoints, {Role.MEMORY: SHARED})
    small.list_checkpoint("small", small.checkpoints.seal("web-1", "small", index_of(parts, "small")))
    small.forget("big")
    first = report(small.prune())
    assert first["repacked"] == 1
    assert small.restores("small")
    second = report(small.prune())
    assert second["freed_bytes"] > 900_000
    assert small.objects.sizes(layout.PACKS) < 150_000
    verified = small.run(JobRequest(JobKind.VERIFICATION, verify=VerifyRequest(read_data="all")))
    assert verified.phase is Phase.SUCCEEDED, "it looks for packs where they were before"
    assert small.restores("small")
    assert unneeded(small) == (0, 0)


def test_a_damaged_checkpoint_keeps_every_pack(bench: Bench) -> None:
    index = bench.checkpoints.read_index("web-1", "chunked-2")
    bench.objects.delete(layout.blob_key(index.parts[0].digest))
    packs = bench.objects.sizes(layout.PACKS)
    bench.prune()
    found = report(bench.prune())
    assert found["unclear"] == ["chunked-2"]
    assert bench.objects.sizes(layout.PACKS) == packs


def test_an_index_that_does_not_decrypt_keeps_everything_and_is_told(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, read = layout.index_key("web-1", "plain-2"), bench.objects.get

    def get(name: str, limit_bytes: int = SMALL_BYTES) -> bytes:
        if name == key:
            raise IntegrityError(f"object '{key}' does not decrypt", code="object_damaged")
        return read(name, limit_bytes)

    monkeypatch.setattr(bench.objects, "get", get)
    before = {info.key for info in bench.objects.scan("")}
    bench.prune()
    found = bench.prune().facts["pruned"]
    assert {info.key for info in bench.objects.scan("")} == before
    assert (found["unclear"], found["blobs"], found["packs"], found["marked"]) == (["plain-2"], 0, 0, 0)
    assert found["damaged"] == [f"checkpoint plain-2: object '{key}' does not decrypt"]
    assert found["left"] > 2
    assert found["left_bytes"] > 40_000
    monkeypatch.undo()
    bench.prune()
    assert report(bench.prune())["freed_bytes"] >= found["left_bytes"]
    check(bench)


def test_an_index_that_is_damaged_while_blobs_go_keeps_them(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It could be read when the prune looked for the first time, and not when it looked again."""
    bench.prune()
    key, read = layout.index_key("web-1", "plain-2"), bench.objects.get
    reads = []

    def get(name: str, limit_bytes: int = SMALL_BYTES) -> bytes:
        reads.append(name)
        if name == key and reads.count(key) > 1:
            raise IntegrityError("it does not decrypt", code="object_damaged")
        return read(name, limit_bytes)

    monkeypatch.setattr(bench.objects, "get", get)
    blobs = bench.objects.sizes(layout.BLOBS)
    assert report(bench.prune())["blobs"] == 0
    assert bench.objects.sizes(layout.BLOBS) == blobs


def test_a_damaged_pack_index_keeps_every_pack_and_blobs_go(bench: Bench) -> None:
    bench.prune()
    name = max(info.key for info in bench.objects.scan(layout.PACK_INDEXES))
    bench.objects.put(name, b"garbage")
    packs = bench.objects.sizes(layout.PACKS)
    found = bench.prune().facts["pruned"]
    assert (found["packs"], bench.objects.sizes(layout.PACKS)) == (0, packs)
    assert found["blobs"] > 0
    assert name.rpartition("/")[2][:19] in found["damaged"][0]
    assert found["left"] > 0


def test_small_pack_indexes_become_one(bench: Bench) -> None:
    for number in range(MERGE_FROM):
        back_up(bench, f"more-{number}", 100 + number)
    assert report(bench.prune(dry_run=True))["merged"] == MERGE_FROM + 3
    assert report(bench.prune())["merged"] == MERGE_FROM + 3
    assert len([*bench.objects.scan(layout.PACK_INDEXES)]) == 2  # and that of what was repacked
    bench.forget_chunks()
    check(bench)
    assert report(bench.prune())["merged"] == 0
    bench.prune()
    assert unneeded(bench) == (0, 0)
    check(bench)


def test_a_lost_pack_index_keeps_every_pack(bench: Bench) -> None:
    for info in list(bench.objects.scan(layout.PACK_INDEXES)):
        bench.objects.delete(info.key)
    packs = bench.objects.sizes(layout.PACKS)
    bench.prune()
    found = report(bench.prune())
    assert found["missing_chunks"] > 0 or found["unclear"]
    assert bench.objects.sizes(layout.PACKS) == packs


def test_one_prune_at_a_time(bench: Bench) -> None:
    bench.prune()
    lock = PruneLock(bench.objects, "somebody else")
    lock.acquire()
    job = bench.run(JobRequest(JobKind.PRUNE, prune=PruneRequest(0)))
    assert (job.phase, (job.failure or {})["code"]) == (Phase.FAILED, "prune_busy")
    lock.release()
    assert report(bench.prune())["freed_bytes"] > 0


def test_the_lock_of_a_job_that_ended_is_nobodys(bench: Bench) -> None:
    ended = bench.prune()
    PruneLock(bench.objects, ended.id).acquire()
    assert report(bench.prune())["freed_bytes"] > 0


def test_a_read_only_store_is_said_and_nothing_is_changed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.prune()
    before = {info.key for info in bench.objects.scan("")}

    def refuse(*_: object, **__: object) -> None:
        raise PermissionDenied("the store refuses our credentials (AccessDenied)", code="store_credentials")

    for verb in ("put", "delete"):
        monkeypatch.setattr(bench.objects, verb, refuse)
    job = bench.run(JobRequest(JobKind.PRUNE, prune=PruneRequest(0)))
    assert (job.phase, (job.failure or {})["code"]) == (Phase.FAILED, "store_credentials")
    assert {info.key for info in bench.objects.scan("")} == before


@pytest.mark.parametrize("grace_s", [-1, 1e9, float("nan")])
def test_impossible_grace_times_are_refused(bench: Bench, grace_s: float) -> None:
    with pytest.raises(InvalidRequest):
        bench.prune(grace_s)


def test_forget_may_prune_at_once(bench: Bench) -> None:
    asked = ForgetRequest(workload_id="web-1", policy=RetentionPolicy(last=1), prune=True)
    job = bench.run(JobRequest(JobKind.FORGET, forget=asked))
    assert job.phase is Phase.SUCCEEDED
    assert "pruned" in job.facts
    assert bench.listed() == ["chunked-2"]


class EncryptedBench(Bench):
    """Its objects are encrypted."""

    def forget_chunks(self) -> None:
        self.source = getattr(self, "source", None) or source_of(new_ring())
        super().forget_chunks()

    def open(self) -> CheckpointStore:
        return CheckpointStore(EncryptedStore(self.objects, self.source), parallel_looks=1)


def test_data_keys_that_nothing_needs_go_after_a_week() -> None:
    bench = EncryptedBench()
    for number in (1, 2):
        sample = Sample(memory=b"the same memory" + bytes([number]))
        digest = sample.seal(bench.checkpoints.writing(f"ck-{number}"), "web-1", f"ck-{number}")
        bench.list_checkpoint(f"ck-{number}", digest, hours_ago=number)
    bench.forget("ck-1")
    bench.prune()
    assert report(bench.prune())["data_keys"] == 0
    bench.now += timedelta(days=8)
    assert report(bench.prune(dry_run=True))["data_keys"] == 0  # what both share was written with it
    bench.forget("ck-2")
    assert len([*bench.objects.scan("keys/data/")]) == 3  # theirs, and that of what belongs to none
    bench.prune()
    assert report(bench.prune())["data_keys"] == 1  # the first one wrote `oci-layout`, too
    assert len([*bench.objects.scan("keys/data/")]) == 2


# ---- wherever it dies


def prune_twice(bench: Bench) -> bool:
    try:
        bench.prune()
        bench.prune()
    except Died:
        return False
    return True


@pytest.mark.parametrize("step", [3, pytest.param(1, marks=pytest.mark.wide)])
@pytest.mark.parametrize("merge_from", [2, MERGE_FROM])
def test_a_crash_at_any_write_loses_nothing_and_the_next_runs_finish(
    step: int, merge_from: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruner, "MERGE_FROM", merge_from)
    alive, point = False, 1 - step
    while not alive:
        point += step
        bench = Bench()
        fill(bench)
        bench.clockwork.count, bench.clockwork.dies_at = 0, point
        alive = prune_twice(bench)
        bench.clockwork.dies_at = None
        bench.start()
        check(bench)
        bench.now += timedelta(hours=1)  # a lock of a dead controller ends
        bench.end_jobs()
        assert prune_twice(bench), point
        check(bench)
        assert prune_twice(bench), point
        assert unneeded(bench) == (0, 0), point
        assert [info.key for info in bench.objects.scan("prune/")] == [], point
        assert bench.listed() == ["chunked-2", "plain-2"]
    assert point > 40, "the run was not broken at every write"


# ---- whoever uploads meanwhile


class Uploader:
    """Uploads what a forgotten checkpoint had, at one point of a prune, and seals at another."""

    def __init__(self, bench: Bench, uploads_at: int, seals_at: int):
        self.bench = bench
        self.points: dict[int, Callable[[], None]] = {}
        self.plain = Sample(memory=b"memory of plain-1")
        self.refused = 0
        self.points[uploads_at] = self.upload
        self.points[seals_at] = self.upload_and_seal if uploads_at == seals_at else self.seal

    def at(self, point: int) -> None:
        act = self.points.pop(point, None)
        if act:
            act()

    def upload(self) -> None:
        self.plain.upload(self.bench.checkpoints)
        parts, _ = write(self.bench.checkpoints, {Role.MEMORY: some_bytes(40_000, 1) + SHARED})
        self.chunked = index_of(parts, "late")

    def seal(self) -> None:
        for checkpoint_id, index in (("late-plain", self.plain.index), ("late-chunked", self.chunked)):
            try:
                digest = self.bench.checkpoints.seal("web-1", checkpoint_id, index)
            except ResourceBusy as error:
                if error.code != "blob_missing":
                    raise
                self.refused += 1
            else:
                if checkpoint_id not in self.bench.listed():
                    self.bench.list_checkpoint(checkpoint_id, digest)

    def upload_and_seal(self) -> None:
        self.upload()
        self.seal()


def points_of_a_prune() -> int:
    bench = Bench()
    fill(bench)
    bench.prune()
    bench.clockwork.count = 0
    bench.prune()
    return bench.clockwork.count


@pytest.mark.parametrize("step", [5, pytest.param(1, marks=pytest.mark.wide)])
def test_an_upload_at_any_moment_of_a_prune_is_whole_or_refused(step: int) -> None:
    """No job is known to the database: only the store's own notes protect, and the grace time is 0."""
    last, refused = points_of_a_prune(), 0
    pairs = [(0, seal) for seal in range(1, last + 1)] + [(up, up) for up in range(1, last + 1)]
    pairs += [(up, up + 3) for up in range(1, last - 2, 2)]
    for uploads_at, seals_at in pairs[::step]:
        bench = Bench()
        fill(bench)
        bench.prune()
        uploader = Uploader(bench, uploads_at, seals_at)
        uploader.at(0)
        bench.clockwork.count, bench.clockwork.watch = 0, uploader.at
        bench.prune()
        bench.clockwork.watch = None
        check(bench)
        bench.prune()
        bench.prune()
        check(bench)
        refused += uploader.refused
        uploader.upload_and_seal()
        assert {"late-plain", "late-chunked"} <= {*bench.listed()}, (uploads_at, seals_at)
        check(bench)
    assert refused, "no upload ever met the prune"


def test_a_seal_sees_what_somebody_deletes_right_now(bench: Bench) -> None:
    sample = Sample(memory=b"memory of plain-2")
    sample.upload(bench.checkpoints)
    doom(bench.objects, "ck-other", [sample.parts[0].digest])
    with pytest.raises(ResourceBusy) as refused:
        bench.checkpoints.seal("web-1", "ck-new", sample.index)
    assert refused.value.code == "blob_missing"
    assert "ck-new" not in bench.sealed()
