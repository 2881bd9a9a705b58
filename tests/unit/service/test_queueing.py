"""Who waits for room on a host, by one look at all jobs."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from migrator.models.phase import JobKind, Phase
from migrator.models.values import Job, JobRequest, StepStatus
from migrator.service.control.queueing import Room
from migrator.service.plans import steps_for

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def a_job(job_id: str, source: str, target: str, done: int, phase: Phase = Phase.PREPARING) -> Job:
    """A migration of which so many steps are done."""
    request = JobRequest(JobKind.MIGRATION, source_host=source, container="c", target_host=target)
    steps = steps_for(request)
    steps = tuple(replace(step, status=StepStatus.DONE) if step.position < done else step for step in steps)
    return Job(job_id, request, phase, 1, NOW, NOW, steps=steps)


def queueing(job_id: str, source: str = "alpha", target: str = "beta") -> Job:
    return a_job(job_id, source, target, done=5)


def test_hosts_have_room_for_so_many_and_each_takes_some() -> None:
    moving = a_job("m", "alpha", "beta", done=12, phase=Phase.UPLOADING)
    room = Room([moving, queueing("a"), queueing("b")], 2)
    assert room.take(queueing("a"), NOW)
    assert not room.take(queueing("b"), NOW)
    assert not room.take(queueing("c", "gamma", "beta"), NOW), "its target is full"
    assert room.take(queueing("d", "gamma", "delta"), NOW)


def test_who_does_not_begin_to_need_a_host_waits_for_none() -> None:
    moving = [a_job(f"m{number}", "alpha", "beta", done=12, phase=Phase.UPLOADING) for number in range(5)]
    room = Room(moving, 2)
    assert all(room.take(job, NOW) for job in moving)
    assert room.take(a_job("early", "alpha", "beta", done=2, phase=Phase.PREFLIGHT), NOW)
