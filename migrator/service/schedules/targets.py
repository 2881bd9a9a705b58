"""What a schedule is about now: labels and hosts are looked up at each firing, a container that moved is followed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from migrator.errors import NotFound
from migrator.models.phase import JobKind
from migrator.models.schedule_values import Schedule, ScheduleSpec, Target
from migrator.models.session import Transaction
from migrator.models.values import ContainerView, JobRequest
from migrator.service.schedules.kinds import Scope, scope_of

RUNNING = "running"
"""containerd's word for a task that can be frozen."""


@dataclass(frozen=True, slots=True)
class Place:
    """One thing to make a job for: a container, a host, or the store."""

    host: str | None
    namespace: str
    container: str | None


def find_places(tx: Transaction, spec: ScheduleSpec) -> list[Place]:
    """Say what a firing is about now; empty if nothing matches."""
    target, namespace, scope = spec.target, spec.job.namespace, scope_of(spec.job.kind)
    if scope is Scope.ONE:
        return [Place(None, namespace, None)]
    if scope is Scope.HOST:
        return [Place(target.host, namespace, None)]
    if target.container is not None:
        return [Place(_follow(tx, target), namespace, target.container)]
    return select_places(tx.hosts.containers(target.host), target.labels, namespace)


def select_places(views: Iterable[ContainerView], labels: dict[str, str], namespace: str) -> list[Place]:
    """Pick the running containers of a namespace that have all these labels."""
    return [
        Place(view.host, view.namespace, view.name)
        for view in views
        if view.namespace == namespace and view.status == RUNNING and labels.items() <= view.labels.items()
    ]


def request_for(schedule: Schedule, place: Place) -> JobRequest:
    """What is asked for about one place."""
    job = schedule.spec.job
    if place.host is None:
        return replace(job, schedule=schedule.name)
    return replace(job, source_host=place.host, container=place.container, schedule=schedule.name)


def is_there_already(spec: ScheduleSpec, place: Place) -> bool:
    """Whether a container need not be moved."""
    return spec.job.kind is JobKind.MIGRATION and place.host == spec.job.target_host


def name_target(target: Target) -> str:
    """Name what a schedule is about, for people."""
    if target.container is not None:
        return f"{target.host}/{target.container}"
    labels = ",".join(f"{name}={value}" for name, value in sorted(target.labels.items()))
    where = f"all on {target.host}" if target.host else ""
    return " ".join(filter(None, (where, labels))) or "the object store"


def _follow(tx: Transaction, target: Target) -> str | None:
    """Where a container is now; where it was when nobody has moved it."""
    try:
        if target.workload_id is not None:
            return tx.workloads.get(target.workload_id).owner_host
    except NotFound:  # another container of its name took its place on a host it had moved to
        return target.host
    return target.host
