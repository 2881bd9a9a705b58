"""Values to store, and a way to let several writers loose on them at the same moment."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from migrator.errors import MigratorError
from migrator.models.phase import JobKind, Phase
from migrator.models.values import Job, JobRequest, Step

T = TypeVar("T")

START = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
MIGRATION = JobRequest(JobKind.MIGRATION, source_host="alpha", container="web", target_host="beta")
PLAN = (
    ("preflight", "alpha", Phase.PREFLIGHT),
    ("prepare", "beta", Phase.PREPARING),
    ("freeze", "alpha", Phase.FREEZING),
    ("dump", "alpha", Phase.DUMPING),
    ("commit", None, Phase.COMMITTED),
)


def moment(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


def a_job(job_id: str = "mig-1", *, minutes: float = 0, **values: Any) -> Job:
    steps = tuple(Step(position, name, host, phase) for position, (name, host, phase) in enumerate(PLAN))
    at = moment(minutes)
    standard: dict[str, Any] = {"request": MIGRATION, "phase": Phase.ACCEPTED, "version": 1, "steps": steps}
    return Job(**(standard | {"id": job_id, "created_at": at, "updated_at": at} | values))


def race(count: int, act: Callable[[int], T]) -> tuple[list[T], list[MigratorError]]:
    """Let `count` threads act at the same moment; return what the winners got and what the losers were told."""
    line = threading.Barrier(count, timeout=10)

    def run(number: int) -> T | MigratorError:
        line.wait()
        try:
            return act(number)
        except MigratorError as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        ends = list(pool.map(run, range(count), timeout=60))
    return (
        [end for end in ends if not isinstance(end, MigratorError)],
        [end for end in ends if isinstance(end, MigratorError)],
    )
