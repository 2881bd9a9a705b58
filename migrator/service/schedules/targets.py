"""What a schedule is about now: looked up at each firing; a container that moved is followed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from migrator.errors import NotFound
from migrator.models.phase import JobKind
from migrator.models.schedule_values import Schedule, ScheduleSpec, Target
from migrator.models.session import Transaction
from migrator.models.values import JobRequest, Workload
from migrator.models.workloads import unknown_workload
from migrator.service.choosing import Choice, choose
from migrator.service.originals import current_generation
from migrator.service.schedules.kinds import Scope, scope_of
from migrator.service.selectors import select

RUNNING = "running"
"""containerd's word for a task that can be frozen."""


@dataclass(frozen=True, slots=True)
class Place:
    """One thing to make a job for: a container, a workload of which only checkpoints are left, a host, or the store."""

    host: str | None
    namespace: str
    container: str | None
    workload_id: str | None = None


def find_places(tx: Transaction, spec: ScheduleSpec) -> list[Place]:
    """Say what a firing is about now; empty if nothing matches."""
    target, namespace, scope = spec.target, spec.job.namespace, scope_of(spec.job.kind)
    if scope is Scope.ONE:
        return [Place(None, namespace, None)]
    if scope is Scope.HOST:
        return [Place(target.host, namespace, None)]
    if target.container is not None or target.workload_id is not None:
        return _follow(tx, target, namespace)
    views = select(tx.hosts.containers(target.host), target.selector, (namespace,))
    return [Place(view.host, view.namespace, view.name) for view in views if view.status == RUNNING]


def request_for(tx: Transaction, schedule: Schedule, place: Place, now: datetime) -> JobRequest:
    """What is asked for about one place.

    Raises:
        NotFound: `no_checkpoints`, a drill has nothing to prove; `workload_not_found`.
    """
    job = replace(schedule.spec.job, schedule=schedule.name)
    if scope_of(job.kind) is Scope.CHECKPOINTS:
        workload = f"{place.host}/{place.container}" if place.host else str(place.workload_id)
        return replace(job, checkpoint_id=choose(tx, Choice(workload, place.namespace), now).id)
    if place.host is None and place.workload_id is not None:
        raise unknown_workload(place.workload_id)
    if place.host is None:
        return job
    return replace(job, source_host=place.host, container=place.container)


def is_there_already(spec: ScheduleSpec, place: Place) -> bool:
    """Whether a container need not be moved."""
    return spec.job.kind is JobKind.MIGRATION and place.host == spec.job.target_host


def name_target(target: Target) -> str:
    """Name what a schedule is about, for people."""
    if target.container is not None:
        return f"{target.host}/{target.container}"
    if target.workload_id is not None:
        return target.workload_id
    where = f"all on {target.host}" if target.host else ""
    return " ".join(filter(None, (where, target.selector))) or "the object store"


def _follow(tx: Transaction, target: Target, namespace: str) -> list[Place]:
    """Where a container is now, or what goes on with it; where it was when nobody has moved it."""
    workload = _find(tx, target, namespace)
    if workload is not None:
        return [Place(workload.owner_host, workload.namespace, workload.container, workload.id)]
    if target.container is not None:
        return [Place(target.host, namespace, target.container)]
    return [Place(None, namespace, None, target.workload_id)]


def _find(tx: Transaction, target: Target, namespace: str) -> Workload | None:
    """None if another container of its name took its place on a host it had moved to, or if it is gone."""
    if target.workload_id is None:
        return None
    name = target.container
    try:
        known = tx.workloads.get(target.workload_id)
        namespace, name = known.namespace, known.container
    except NotFound:
        known = None
    return known if name is None else current_generation(tx, target.workload_id, namespace, name)
