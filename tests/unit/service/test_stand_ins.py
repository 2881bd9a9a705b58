"""What the controller answers for a host that was removed, with a real checkpoint store in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from migrator.models.phase import JobKind, Phase
from migrator.models.session import Database
from migrator.models.values import Facts, Job, JobRequest, StepStatus
from migrator.service.catalogue import LAST_COPY, SOURCE_GONE, TARGET_GONE
from migrator.service.control.control_steps import control_steps
from migrator.service.control.stand_ins import stand_ins
from migrator.service.plans import line_named, steps_for
from migrator.storage.checkpoints import CheckpointStore
from migrator.storage.memory import MemoryStore
from tests.unit.storage.samples import Sample

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path}/db")
    database.upgrade()
    yield database
    database.close()


def job_with(sample: Sample, digest: str, **facts: object) -> Job:
    request = JobRequest(JobKind.MIGRATION, source_host="alpha", container="web", target_host="beta")
    known: Facts = {
        "image": {"name": "web:1"},
        "image_bytes": 5,
        "index_digest": digest,
        "checkpoint_bytes": 7,
        "claimed_at": NOW.isoformat(),
        "parts": [part.to_oci() for part in sample.parts],
        **facts,
    }
    first, *others = steps_for(request)
    first = replace(first, status=StepStatus.DONE, facts=known)
    return Job(
        "j", request, Phase.FINISHING, 1, NOW, NOW, workload_id="web-1", checkpoint_id="ck-1", steps=(first, *others)
    )


def test_what_a_removed_source_had_sealed_stays() -> None:
    store, sample = CheckpointStore(MemoryStore()), Sample()
    digest = sample.seal(store, "web-1", "ck-1")
    told = stand_ins(store)["upload"].undo(job_with(sample, digest))
    assert (told[SOURCE_GONE], told[LAST_COPY], told["index_digest"]) == (True, True, digest)
    assert store.read_index("web-1", "ck-1").digest == digest


def test_what_a_removed_source_had_not_sealed_goes() -> None:
    store, sample = CheckpointStore(MemoryStore()), Sample()
    told = stand_ins(store)["upload"].undo(job_with(sample, ""))
    assert told == {SOURCE_GONE: True}


def test_a_checkpoint_whose_target_is_gone_after_the_proof_is_kept(database: Database) -> None:
    store, sample = CheckpointStore(MemoryStore()), Sample()
    digest = sample.seal(store, "web-1", "ck-1")
    facts = stand_ins(store)["release-target"].run(job_with(sample, digest))
    assert facts == {TARGET_GONE: True}
    control_steps(database, store)["settle"].run(job_with(sample, digest, **facts))
    with database.transaction(write=False) as tx:
        assert tx.checkpoints.get("ck-1").index_digest == digest
    assert store.read_index("web-1", "ck-1").digest == digest


def test_without_that_it_is_discarded(database: Database) -> None:
    store, sample = CheckpointStore(MemoryStore()), Sample()
    digest = sample.seal(store, "web-1", "ck-1")
    assert control_steps(database, store)["settle"].run(job_with(sample, digest)) == {"discarded": True}
    assert not list(store.sealed())


def test_a_line_is_found_by_its_name_whatever_the_order_was() -> None:
    assert line_named(JobKind.CHECKPOINT, "settle").where.value == "control"
    assert line_named(JobKind.CHECKPOINT, "release-source").where.value == "source"
