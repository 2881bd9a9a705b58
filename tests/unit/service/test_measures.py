"""The freeze of a backup ends within its dump."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from migrator.models.phase import JobKind, Phase
from migrator.models.values import Facts, Job, JobRequest, Step
from migrator.service.measures import measure

BEGAN = datetime(2026, 11, 20, tzinfo=UTC)


def job(kind: JobKind, dumped: Facts) -> Job:
    def step(position: int, name: str, ended_s: float, **more: Any) -> Step:
        return Step(position, name, "alpha", Phase.DUMPING, finished_at=BEGAN + timedelta(seconds=ended_s), **more)

    steps = (
        step(0, "freeze", 1.0, facts={"pause_s": 0.1}),
        step(1, "dump", 3.0, duration_s=1.5, facts=dumped),
        step(2, "thaw", 4.0),
    )
    return Job("j", JobRequest(kind), Phase.SUCCEEDED, 1, BEGAN, BEGAN, steps=steps)


def test_a_checkpoint_is_frozen_until_its_thaw() -> None:
    assert measure(job(JobKind.CHECKPOINT, {})).freeze_ms == pytest.approx(3100)


def test_a_backup_is_frozen_until_its_dump_resumes_it() -> None:
    found = measure(job(JobKind.BACKUP, {"thawed_after_s": 0.7}))
    assert found.freeze_ms == pytest.approx(1300)
    assert found.orchestration_ms == pytest.approx(600)


def test_a_freeze_begins_where_the_dump_pauses() -> None:
    found = measure(job(JobKind.BACKUP, {"paused_after_s": 0.3, "thawed_after_s": 0.7}))
    assert found.freeze_ms == pytest.approx(400)
    assert found.orchestration_ms == pytest.approx(0)
    found = measure(job(JobKind.MIGRATION, {"paused_after_s": 0.3}))
    assert found.freeze_ms == pytest.approx(2200)
