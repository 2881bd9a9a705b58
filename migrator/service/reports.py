"""How well each workload is protected: what would be lost now, and what a restore was seen to take."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from migrator.errors import NotFound
from migrator.models.generations import family_of
from migrator.models.session import Database, Transaction
from migrator.models.values import Checkpoint, Workload
from migrator.service.choosing import checkpoints_of
from migrator.service.originals import current_generation

Place = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class WorkloadReport:
    """One workload."""

    host: str
    namespace: str
    container: str
    workload_id: str
    checkpoints: int
    newest: Checkpoint | None
    proven: Checkpoint | None
    """What a drill proved last."""
    failed: Checkpoint | None
    """What a drill judged last of all, if it judged badly."""
    age_s: float | None
    """Of the newest checkpoint."""


def report_workloads(database: Database, workload: str, namespace: str, now: datetime) -> list[WorkloadReport]:
    """Report on one workload, or on all that are known, by host and name.

    Raises:
        NotFound: `workload_not_found`.
    """
    with database.transaction(write=False) as tx:
        if workload:
            return [_one(tx, workload, namespace, now)]
        return _all(tx, now)


def report(known: Iterable[Checkpoint], owner: Workload | None, now: datetime) -> WorkloadReport:
    """Add up what is known of one workload."""
    checkpoints = sorted(known, key=lambda item: (item.created_at, item.id), reverse=True)
    newest = checkpoints[0] if checkpoints else None
    judged = [item for item in checkpoints if item.drilled_at]
    last = max(judged, key=lambda item: item.drilled_at or now, default=None)
    host, namespace, container = _place(owner, newest)
    return WorkloadReport(
        host=host,
        namespace=namespace,
        container=container,
        workload_id=owner.id if owner else newest.workload_id if newest else "",
        checkpoints=len(checkpoints),
        newest=newest,
        proven=max((item for item in judged if item.proven_at), key=lambda item: item.proven_at or now, default=None),
        failed=last if last and last.drill_failure else None,
        age_s=(now - newest.created_at).total_seconds() if newest else None,
    )


def _one(tx: Transaction, workload: str, namespace: str, now: datetime) -> WorkloadReport:
    known = checkpoints_of(tx, workload, namespace)
    host, slash, container = workload.partition("/")
    owner = tx.workloads.find(host, namespace, container) if slash else None
    if owner is None:
        owner = _current(tx, known[0]) if known else _find(tx, workload)
    if not known and owner is None:
        raise NotFound(
            f"nothing is known of workload '{workload}' in namespace '{namespace}'",
            code="workload_not_found",
            remedy="name HOST/CONTAINER as `migrator containers list` shows it, or see `migrator report` for all",
        )
    return report(known, owner, now)


def _all(tx: Transaction, now: datetime) -> list[WorkloadReport]:
    """Every place that has checkpoints, its workload's own from other hosts included.

    What was taken of a workload on a host that it has left counts for where it is now.
    """
    known: dict[Place, list[Checkpoint]] = defaultdict(list)
    owners: dict[Place, Workload | None] = {}
    current: dict[Place, Workload | None] = {}
    for item in tx.checkpoints.list():
        name = (family_of(item.workload_id), item.namespace, item.container)
        owner = current[name] if name in current else current.setdefault(name, _current(tx, item))
        place = _place(owner, item)
        known[place].append(item)
        owners[place] = owners.get(place) or owner
    return [report(items, owners[place], now) for place, items in sorted(known.items())]


def _current(tx: Transaction, item: Checkpoint) -> Workload | None:
    """The workload of a checkpoint, or what goes on with it, under whatever name it has now."""
    there = current_generation(tx, item.workload_id, item.namespace, item.container)
    return there or _find(tx, item.workload_id)


def _find(tx: Transaction, workload_id: str) -> Workload | None:
    try:
        return tx.workloads.get(workload_id)
    except NotFound:
        return None


def _place(owner: Workload | None, newest: Checkpoint | None) -> Place:
    if owner is not None:
        return owner.owner_host, owner.namespace, owner.container
    return (newest.host, newest.namespace, newest.container) if newest else ("", "", "")
