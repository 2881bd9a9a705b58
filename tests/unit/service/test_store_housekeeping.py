"""The object store loses only what no index names, nobody uploads and nobody relies on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from migrator.models.descriptors import digest_bytes
from migrator.models.phase import JobKind, Phase
from migrator.models.session import Database
from migrator.models.values import Checkpoint, Job, JobRequest
from migrator.service.housekeeping.store import OLD, StoreKeeper
from migrator.storage import layout
from migrator.storage.checkpoints import CheckpointStore
from migrator.storage.memory import MemoryStore
from migrator.storage.prune.notes import PruneLock
from tests.unit.storage.samples import Sample

LATER = datetime.now(UTC) + OLD + timedelta(hours=1)
"""What a test writes is old by then."""
MIGRATION = JobRequest(JobKind.MIGRATION, source_host="alpha", container="web", target_host="beta")
CHECKPOINT = JobRequest(JobKind.CHECKPOINT, source_host="alpha", container="web")
LOOSE = b"a layer that no index names"


class Bench:
    """A store keeper a day from now."""

    def __init__(self, directory: Path):
        self.database = Database(f"sqlite:///{directory / 'migrator.db'}")
        self.database.upgrade()
        self.objects = MemoryStore()
        self.checkpoints = CheckpointStore(self.objects)
        self.keeper = StoreKeeper(self.database, self.checkpoints, now=lambda: LATER)
        self.jobs = 0

    def put(self, data: bytes = LOOSE) -> str:
        digest = digest_bytes(data)
        self.checkpoints.put_blob(digest, len(data), [data])
        return digest

    def add_job(self, phase: Phase, request: JobRequest = MIGRATION, ended_ago_s: float = 3600) -> str:
        self.jobs += 1
        ended = LATER - timedelta(seconds=ended_ago_s)
        job = Job(
            f"mig-222222222{'23456789'[self.jobs]}",
            request,
            phase,
            1,
            ended,
            ended,
            finished_at=ended if phase.terminal else None,
        )
        with self.database.transaction() as tx:
            tx.jobs.add(job)
        return job.id

    def seal(self, job_id: str, checkpoint_id: str = "ck-1") -> None:
        Sample(job=job_id).seal(self.checkpoints, "web-1", checkpoint_id)

    def catalogue(self, checkpoint_id: str = "ck-1") -> None:
        kept = Checkpoint(checkpoint_id, "web-1", None, "alpha", "default", "web", "i", "sha256:0", 1, LATER)
        with self.database.transaction() as tx:
            tx.checkpoints.add(kept)

    def keys(self, prefix: str) -> list[str]:
        return [info.key for info in self.objects.scan(prefix)]

    def sealed(self) -> list[str]:
        return [item.checkpoint_id for item in self.checkpoints.sealed()]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.database.close()


# ---- blobs


def test_an_old_blob_that_no_index_names_goes(bench: Bench) -> None:
    """The mark that the first sweep writes is a day old, too, by the clock of the second."""
    digest = bench.put()
    assert bench.keeper.prune() == []
    assert bench.keeper.prune() == [digest.removeprefix("sha256:")]
    assert bench.keys(layout.BLOBS) == bench.keys("prune/") == []


def test_a_young_blob_stays(bench: Bench) -> None:
    bench.put()
    young = StoreKeeper(bench.database, bench.checkpoints, now=lambda: LATER - timedelta(hours=2))
    for _ in range(3):
        assert young.prune() == []
    assert len(bench.keys(layout.BLOBS)) == 1


def test_what_an_index_names_stays_with_its_image(bench: Bench) -> None:
    bench.seal("mig-unknown")
    before = bench.keys(layout.BLOBS)
    digest = bench.put()
    bench.keeper.prune()
    assert bench.keeper.prune() == [digest.removeprefix("sha256:")]
    assert bench.keys(layout.BLOBS) == before


@pytest.mark.parametrize("phase", [Phase.ACCEPTED, Phase.PREPARING, Phase.ROLLING_BACK, Phase.NEEDS_OPERATOR])
def test_a_job_that_began_before_keeps_every_blob(bench: Bench, phase: Phase) -> None:
    bench.put()
    bench.add_job(phase, ended_ago_s=2 * OLD.total_seconds())
    for _ in range(3):
        assert bench.keeper.prune() == []
    assert len(bench.keys(layout.BLOBS)) == 1


def test_a_prune_that_is_under_way_is_left_alone(bench: Bench) -> None:
    bench.put()
    PruneLock(bench.objects, "prn-2222222222").acquire()
    assert bench.keeper.prune() == []
    assert bench.keys("prune/") == [layout.PRUNE_LOCK]


# ---- checkpoints


@pytest.mark.parametrize(
    ("phase", "request_"),
    [
        (Phase.SUCCEEDED, MIGRATION),
        (Phase.FAILED, MIGRATION),
        (Phase.CANCELLED, replace(MIGRATION, keep_checkpoint=True)),
        (Phase.FAILED, CHECKPOINT),
    ],
)
def test_a_temporary_checkpoint_goes_when_its_job_is_over(bench: Bench, phase: Phase, request_: JobRequest) -> None:
    bench.seal(bench.add_job(phase, request_))
    assert bench.keeper.remove_temporary_checkpoints() == ["ck-1"]
    assert bench.sealed() == []


@pytest.mark.parametrize(
    ("phase", "request_", "ended_ago_s"),
    [
        (Phase.SUCCEEDED, MIGRATION, 30),
        (Phase.FETCHING, MIGRATION, 0),
        (Phase.ROLLING_BACK, MIGRATION, 0),
        (Phase.NEEDS_OPERATOR, MIGRATION, 3600),
        (Phase.SUCCEEDED, CHECKPOINT, 3600),
        (Phase.SUCCEEDED, replace(MIGRATION, keep_checkpoint=True), 3600),
    ],
)
def test_a_checkpoint_that_may_be_needed_stays(
    bench: Bench, phase: Phase, request_: JobRequest, ended_ago_s: float
) -> None:
    bench.seal(bench.add_job(phase, request_, ended_ago_s))
    assert bench.keeper.remove_temporary_checkpoints() == []
    assert bench.sealed() == ["ck-1"]


def test_a_checkpoint_in_the_catalogue_stays(bench: Bench) -> None:
    bench.seal(bench.add_job(Phase.FAILED))
    bench.catalogue()
    assert bench.keeper.remove_temporary_checkpoints() == []


@pytest.mark.parametrize("job", ["", "mig-aaaaaaaaaa", "somebody else's"])
def test_a_checkpoint_of_a_job_that_is_not_known_stays(bench: Bench, job: str) -> None:
    bench.seal(job)
    assert bench.keeper.remove_temporary_checkpoints() == []


# ---- notes


def test_probes_and_verdicts_go(bench: Bench) -> None:
    over, running = bench.add_job(Phase.FAILED), bench.add_job(Phase.ROLLING_BACK)
    for key in ("probes/0123", f"verdicts/{over}", f"verdicts/{running}", "verdicts/mig-aaaaaaaaaa"):
        bench.objects.put(key, b"x")
    assert bench.keeper.remove_notes() == ["probes/0123", f"verdicts/{over}"]
    assert bench.keys("verdicts/") == [f"verdicts/{running}", "verdicts/mig-aaaaaaaaaa"]


def test_the_whole_sweep(bench: Bench) -> None:
    bench.seal(bench.add_job(Phase.FAILED))
    bench.objects.put("probes/0123", b"x")
    bench.keeper.sweep()
    bench.keeper.sweep()
    assert bench.keys("") == [layout.OCI_LAYOUT]
