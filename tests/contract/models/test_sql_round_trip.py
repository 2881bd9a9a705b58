"""Whatever a job holds, it comes back the same."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from itertools import count
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from migrator.models.phase import JobKind, Phase, may_follow
from migrator.models.session import Database
from migrator.models.values import Job, JobRequest, Step, StepStatus, TcpPolicy

numbers = count()
small, big = st.integers(0, 2**31 - 1), st.integers(0, 2**63 - 1)
words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
zones = st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=45)), timezone(timedelta(hours=-11))])
moments = st.datetimes(datetime(1990, 1, 1), datetime(2200, 1, 1), timezones=zones)
leaves = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False)
anything = st.recursive(
    leaves | st.text(max_size=10), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3)
)
facts = st.dictionaries(words, anything, max_size=3)

hosts = words.map(lambda word: f"{word}{next(numbers)}")
"""Each once: a host has one drain at a time."""
requests = st.builds(
    JobRequest,
    kind=st.sampled_from(JobKind),
    namespace=words,
    source_host=st.none() | hosts,
    container=st.none() | words,
    target_host=st.none() | hosts,
    checkpoint_id=st.none() | words,
    new_name=st.none() | words,
    keep_checkpoint=st.booleans(),
    tcp=st.sampled_from(TcpPolicy),
)


def a_step(position: int) -> st.SearchStrategy[Step]:
    return st.builds(
        Step,
        position=st.just(position),
        name=words,
        host=st.none() | words,
        phase=st.sampled_from(Phase),
        status=st.sampled_from(StepStatus),
        attempt=small,
        started_at=st.none() | moments,
        finished_at=st.none() | moments,
        dispatched_at=st.none() | moments,
        duration_s=st.none() | st.floats(0, allow_infinity=False),
        progress_bytes=big,
        total_bytes=big,
        facts=facts,
        failure=st.none() | facts,
    )


plans = st.integers(0, 4).flatmap(lambda length: st.tuples(*(a_step(position) for position in range(length))))


@st.composite
def jobs(draw: st.DrawFn) -> Job:
    fixed: dict[str, Any] = {"id": str(next(numbers)), "version": 1}
    return Job(**fixed, created_at=draw(moments), request=draw(requests), steps=draw(plans), **draw(changes()))


def changes() -> st.SearchStrategy[dict[str, Any]]:
    """Everything of a job that may change, but for its steps."""
    return st.fixed_dictionaries(
        {
            "phase": st.sampled_from(Phase),
            "updated_at": moments,
            "finished_at": st.none() | moments,
            "workload_id": st.none() | st.builds(lambda: f"w-{next(numbers)}"),
            "epoch": big,
            "checkpoint_id": st.none() | words,
            "cancel_requested": st.booleans(),
            "failure": st.none() | facts,
        }
    )


once_per_database = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@once_per_database
@given(job=jobs())
def test_added(database: Database, job: Job) -> None:
    with database.transaction() as tx:
        assert tx.jobs.add(job) == job
    with database.transaction(write=False) as tx:
        assert tx.jobs.get(job.id) == job


@once_per_database
@given(before=jobs(), change=changes(), data=st.data())
def test_saved(database: Database, before: Job, change: dict[str, Any], data: st.DataObject) -> None:
    if not may_follow(before.phase, change["phase"]):
        change["phase"] = before.phase
    steps = tuple(data.draw(st.just(step) | a_step(step.position)) for step in before.steps)
    with database.transaction() as tx:
        tx.jobs.add(before)
        saved = tx.jobs.save(before, replace(before, **change, steps=steps))
    assert saved.version == 2
    with database.transaction(write=False) as tx:
        assert tx.jobs.get(before.id) == saved
