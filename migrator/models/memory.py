"""A database in memory with the face of the real one; it passes the same suite.

It behaves like PostgreSQL at READ COMMITTED: a writer sees what others have committed so far, a written row stays
locked until the end, whoever loses a compare-and-set is told. A reader sees one snapshot.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from migrator.errors import InternalError, ResourceBusy
from migrator.models.checkpoints import CheckpointRepository, Checkpoints, checkpoint_exists, unknown_checkpoint
from migrator.models.drains import Cordon, Displacement
from migrator.models.examinations import KEPT, ExaminationRepository
from migrator.models.hosts import CONTROL, HostRepository, Hosts, Views, unknown_host
from migrator.models.jobs import ALL_PHASES, JobRepository, Jobs, check_change, job_changed, job_ended
from migrator.models.maintenance import CordonRepository, Cordons, DisplacementRepository, Displacements
from migrator.models.memory_schedules import RUNS, SCHEDULES, MemorySchedules
from migrator.models.phase import TERMINAL, Phase
from migrator.models.session import Database, Transaction
from migrator.models.tables import FINISHED
from migrator.models.values import Checkpoint, ContainerView, Facts, Host, Job, Step, StepStatus, Workload
from migrator.models.workloads import (
    WorkloadRepository,
    commit_lost,
    name_taken,
    owner_taken,
    unknown_workload,
    workload_exists,
)

Table = Mapping[str, Any]
BUSY_TIMEOUT_S = 5.0
"""How long a writer waits for a row that another transaction has written."""
JOBS, HOSTS, WORKLOADS, CHECKPOINTS = "jobs", "hosts", "workloads", "checkpoints"
EXAMINATIONS, HEARING = "examinations", "hearing"
CORDONS, DISPLACEMENTS = "cordons", "displacements"
TABLES = (JOBS, HOSTS, HEARING, WORKLOADS, CHECKPOINTS, EXAMINATIONS, CORDONS, DISPLACEMENTS, SCHEDULES, RUNS)
GONE = object()
"""In the place of a row that a transaction has deleted."""


@dataclass(frozen=True, slots=True)
class _SeenHost:
    """A host and the containers it last saw."""

    host: Host
    views: tuple[ContainerView, ...] = ()
    views_seen_at: datetime | None = None


_Listed = tuple[Checkpoint, datetime | None]


class MemoryDatabase(Database):
    """Rows in dictionaries. May be shared by threads.

    Args:
        busy_timeout_s: How long a writer waits for another; 0 where there is one thread and waiting changes nothing.
    """

    def __init__(self, busy_timeout_s: float = BUSY_TIMEOUT_S):
        self.tables: dict[str, Table] = {name: {} for name in TABLES}
        self.held: dict[Hashable, Rows] = {}
        self.freed = threading.Condition()
        self.busy_timeout_s = busy_timeout_s

    def upgrade(self) -> None:
        """There is no schema."""

    def close(self) -> None:
        """There are no connections."""

    @contextmanager
    def transaction(self, *, write: bool = True) -> Iterator[Transaction]:
        """See `Database.transaction`."""
        rows = Rows(self, write=write)
        try:
            yield MemoryTransaction(rows)
            rows.commit()
        finally:
            rows.release()


class Rows:
    """What one transaction sees and changes."""

    def __init__(self, database: MemoryDatabase, *, write: bool):
        self._database = database
        self._write = write
        self._snapshot = {} if write else dict(database.tables)
        self._changes: dict[str, dict[str, Any]] = {}
        self._locks: set[Hashable] = set()

    def table(self, name: str) -> Table:
        """A table as this transaction sees it now."""
        table = self._database.tables[name] if self._write else self._snapshot[name]
        changes = self._changes.get(name)
        if not changes:
            return table
        return {key: row for key, row in {**table, **changes}.items() if row is not GONE}

    def get(self, name: str, key: str) -> Any | None:
        """One row, None if there is none."""
        changed = self._changes.get(name, {}).get(key)
        if changed is None:
            tables = self._database.tables if self._write else self._snapshot
            return tables[name].get(key)
        return None if changed is GONE else changed

    def put(self, name: str, key: str, row: Any) -> None:
        """Write a row; lock it first."""
        self._changes.setdefault(name, {})[key] = row

    def lock(self, *keys: Hashable) -> None:
        """Keep rows, or values of unique columns, from other writers until the end.

        Raises:
            ResourceBusy: `database_busy`.
            InternalError: `database_misused`, the transaction only reads.
        """
        if not self._write:
            raise InternalError("a transaction that only reads was asked to write", code="database_misused")
        database = self._database
        wanted = [key for key in keys if key not in self._locks]
        with database.freed:
            for key in wanted:
                if key in database.held and not database.freed.wait_for(
                    lambda key=key: key not in database.held,  # type: ignore[misc]
                    database.busy_timeout_s,
                ):
                    raise ResourceBusy(f"row {key} is locked", code="database_busy", remedy="try again")
                database.held[key] = self
                self._locks.add(key)

    def commit(self) -> None:
        """Make the changes visible, all at once."""
        if not self._changes:
            return
        with self._database.freed:
            for name, changes in self._changes.items():
                self._database.tables[name] = {
                    key: row for key, row in {**self._database.tables[name], **changes}.items() if row is not GONE
                }
        self._changes = {}

    def release(self) -> None:
        """Let go of all locks."""
        if self._locks:
            with self._database.freed:
                for key in self._locks:
                    self._database.held.pop(key, None)
                self._locks = set()
                self._database.freed.notify_all()


class MemoryTransaction(Transaction):
    """The repositories of one transaction."""

    def __init__(self, rows: Rows):
        self.jobs = MemoryJobs(rows)
        self.hosts = MemoryHosts(rows)
        self.workloads = MemoryWorkloads(rows)
        self.checkpoints = MemoryCheckpoints(rows)
        self.examinations = MemoryExaminations(rows)
        self.schedules = MemorySchedules(rows, GONE)
        self.cordons = MemoryCordons(rows)
        self.displacements = MemoryDisplacements(rows)


class MemoryJobs(JobRepository):
    """See `JobRepository`."""

    def __init__(self, rows: Rows):
        self._rows = rows

    def add(self, job: Job) -> Job:
        """See `JobRepository.add`."""
        job = _storable(replace(job, version=1))
        self._rows.lock((JOBS, job.id), *_unique(job))
        if self._find(job.id) or self._twin(job) or self._rival(job):
            return self._known(job)
        self._rows.put(JOBS, job.id, job)
        return job

    def find_by_key(self, key: str) -> Job | None:
        """See `JobRepository.find_by_key`."""
        return next((job for job in self._all() if job.idempotency_key == key), None)

    def active_for_workload(self, workload_id: str) -> Job | None:
        """See `JobRepository.active_for_workload`."""
        return next((job for job in self._all() if job.workload_id == workload_id and _holds(job)), None)

    def alone_with(self, what: str) -> Job | None:
        """See `JobRepository.alone_with`."""
        return next((job for job in self._all() if _alone_with(job) == what), None)

    def list(self, *, phases: frozenset[Phase] = ALL_PHASES, host: str | None = None, limit: int = 100) -> Jobs:
        """See `JobRepository.list`."""
        found = [job for job in self._all() if job.phase in phases]
        if host is not None:
            found = [job for job in found if host in (job.request.source_host, job.request.target_host)]
        return sorted(found, key=_age, reverse=True)[:limit]

    def count(self, phases: frozenset[Phase], host: str, but: str) -> int:
        """See `JobRepository.count`."""
        return sum(job.id != but and not job.phase.terminal for job in self.list(phases=phases, host=host, limit=10**9))

    def unfinished(self) -> Jobs:
        """See `JobRepository.unfinished`."""
        return sorted((job for job in self._all() if job.phase not in TERMINAL), key=_age)

    def save(self, before: Job, after: Job) -> Job:
        """See `JobRepository.save`."""
        check_change(before, after)
        self._rows.lock((JOBS, before.id))
        current: Job = self.get(before.id)
        if current.version != before.version:
            raise job_changed(before, current)
        after = _storable(replace(after, version=before.version + 1), before)
        if after.workload_id != before.workload_id or before.phase is Phase.NEEDS_OPERATOR:
            self._rows.lock(*_unique(after))
            if self._rival(after):
                raise self._busy(after)
        self._rows.put(JOBS, after.id, replace(after, steps=_with_progress(current, before, after)))
        return after

    def request_cancel(self, job_id: str, now: datetime) -> Job:
        """See `JobRepository.request_cancel`."""
        self._rows.lock((JOBS, job_id))
        job: Job = self.get(job_id)
        if job.phase.terminal:
            raise job_ended(job)
        if not job.cancel_requested:
            job = replace(job, cancel_requested=True, version=job.version + 1, updated_at=now)
            self._rows.put(JOBS, job_id, job)
        return job

    def record_progress(self, job_id: str, position: int, attempt: int, progress_bytes: int, total_bytes: int) -> None:
        """See `JobRepository.record_progress`."""
        self._rows.lock((JOBS, job_id))
        job: Job | None = self._find(job_id)
        if job is None or position >= len(job.steps):
            return
        step = job.steps[position]
        if step.attempt == attempt and step.status is StepStatus.STARTED and step.progress_bytes <= progress_bytes:
            steps = list(job.steps)
            steps[position] = replace(step, progress_bytes=progress_bytes, total_bytes=total_bytes)
            self._rows.put(JOBS, job_id, replace(job, steps=tuple(steps)))

    def _find(self, job_id: str) -> Job | None:
        return self._rows.get(JOBS, job_id)

    def _all(self) -> Jobs:
        return [*self._rows.table(JOBS).values()]

    def _twin(self, job: Job) -> Job | None:
        return self.find_by_key(job.idempotency_key) if job.idempotency_key is not None else None

    def _rival(self, job: Job) -> bool:
        """Whether another job holds the same workload, or is alone with something."""
        holder = self.active_for_workload(job.workload_id) if job.workload_id is not None and _holds(job) else None
        what = _alone_with(job)
        other = self.alone_with(what) if what is not None else None
        return any(rival is not None and rival.id != job.id for rival in (holder, other))


class MemoryHosts(HostRepository):
    """See `HostRepository`."""

    def __init__(self, rows: Rows):
        self._rows = rows

    def record(self, host: Host) -> None:
        """See `HostRepository.record`."""
        self._rows.lock((HOSTS, host.name))
        seen = self._rows.get(HOSTS, host.name) or _SeenHost(host)
        self._rows.put(HOSTS, host.name, replace(seen, host=host))

    def get(self, name: str) -> Host:
        """See `HostRepository.get`."""
        return self._seen(name).host

    def list(self) -> Hosts:
        """See `HostRepository.list`."""
        return [seen.host for _, seen in sorted(self._rows.table(HOSTS).items())]

    def forget(self, name: str) -> None:
        """See `HostRepository.forget`."""
        self._rows.lock((HOSTS, name))
        self._rows.put(HOSTS, name, GONE)

    def note_hearing(self, heard_until: datetime) -> None:
        """See `HostRepository.note_hearing`."""
        self._rows.lock((HEARING, CONTROL))
        self._rows.put(HEARING, CONTROL, heard_until)

    def heard_until(self) -> datetime | None:
        """See `HostRepository.heard_until`."""
        found: datetime | None = self._rows.get(HEARING, CONTROL)
        return found

    def replace_containers(self, host: str, views: Sequence[ContainerView], seen_at: datetime) -> None:
        """See `HostRepository.replace_containers`."""
        self._rows.lock((HOSTS, host))
        owned = tuple(replace(view, host=host) for view in views)
        self._rows.put(HOSTS, host, replace(self._seen(host), views=owned, views_seen_at=seen_at))

    def containers(self, host: str | None) -> Views:
        """See `HostRepository.containers`."""
        hosts: Mapping[str, _SeenHost] = self._rows.table(HOSTS)
        views = [view for name, seen in hosts.items() if host in (None, name) for view in seen.views]
        return sorted(views, key=lambda view: (view.host, view.namespace, view.name))

    def containers_seen_at(self, host: str) -> datetime | None:
        """See `HostRepository.containers_seen_at`."""
        seen: _SeenHost | None = self._rows.get(HOSTS, host)
        return seen.views_seen_at if seen else None

    def _seen(self, name: str) -> _SeenHost:
        seen: _SeenHost | None = self._rows.get(HOSTS, name)
        if seen is None:
            raise unknown_host(name)
        return seen


class MemoryWorkloads(WorkloadRepository):
    """See `WorkloadRepository`."""

    def __init__(self, rows: Rows):
        self._rows = rows

    def get(self, workload_id: str) -> Workload:
        """See `WorkloadRepository.get`."""
        found: Workload | None = self._rows.get(WORKLOADS, workload_id)
        if found is None:
            raise unknown_workload(workload_id)
        return found

    def find(self, host: str, namespace: str, container: str) -> Workload | None:
        """See `WorkloadRepository.find`."""
        name = (host, namespace, container)
        workloads: Mapping[str, Workload] = self._rows.table(WORKLOADS)
        return next((found for found in workloads.values() if _name(found) == name), None)

    def named(self, namespace: str, container: str) -> list[Workload]:
        """See `WorkloadRepository.named`."""
        workloads: Mapping[str, Workload] = self._rows.table(WORKLOADS)
        found = [item for item in workloads.values() if (item.namespace, item.container) == (namespace, container)]
        return sorted(found, key=lambda item: item.owner_host)

    def add(self, workload: Workload) -> None:
        """See `WorkloadRepository.add`."""
        self._rows.lock((WORKLOADS, workload.id), (WORKLOADS, _name(workload)))
        if self._rows.get(WORKLOADS, workload.id) is not None:
            raise workload_exists(workload)
        if self.find(*_name(workload)) is not None:
            raise name_taken(workload)
        self._rows.put(WORKLOADS, workload.id, workload)

    def commit(self, workload_id: str, *, epoch: int, owner_host: str, next_epoch: int | None = None) -> Workload:
        """See `WorkloadRepository.commit`."""
        self._rows.lock((WORKLOADS, workload_id))
        current = self.get(workload_id)
        if current.epoch != epoch:
            raise commit_lost(current, epoch)
        moved = replace(current, owner_host=owner_host, epoch=next_epoch or epoch + 1)
        self._rows.lock((WORKLOADS, _name(moved)))
        holder = self.find(*_name(moved))
        if holder is not None and holder.id != workload_id:
            raise owner_taken(workload_id, owner_host)
        self._rows.put(WORKLOADS, workload_id, moved)
        return moved

    def remove(self, workload_id: str) -> None:
        """See `WorkloadRepository.remove`."""
        self._rows.lock((WORKLOADS, workload_id))
        self._rows.put(WORKLOADS, workload_id, GONE)


class MemoryCheckpoints(CheckpointRepository):
    """See `CheckpointRepository`; a row is a checkpoint, and since when it is being removed."""

    def __init__(self, rows: Rows):
        self._rows = rows

    def add(self, checkpoint: Checkpoint) -> None:
        """See `CheckpointRepository.add`."""
        self._rows.lock((CHECKPOINTS, checkpoint.id))
        if self._rows.get(CHECKPOINTS, checkpoint.id) is not None:
            raise checkpoint_exists(checkpoint)
        self._rows.put(CHECKPOINTS, checkpoint.id, (checkpoint, None))

    def get(self, checkpoint_id: str) -> Checkpoint:
        """See `CheckpointRepository.get`."""
        found: _Listed | None = self._rows.get(CHECKPOINTS, checkpoint_id)
        if found is None or found[1] is not None:
            raise unknown_checkpoint(checkpoint_id)
        return found[0]

    def hold(self, checkpoint_id: str) -> Checkpoint:
        """See `CheckpointRepository.hold`."""
        self._rows.lock((CHECKPOINTS, checkpoint_id))
        return self.get(checkpoint_id)

    def list(self) -> Checkpoints:
        """See `CheckpointRepository.list`."""
        return self._sorted(removing=False)

    def removing(self) -> Checkpoints:
        """See `CheckpointRepository.removing`."""
        return self._sorted(removing=True)

    def set_removing(self, checkpoint_id: str, removing_at: datetime | None) -> None:
        """See `CheckpointRepository.set_removing`."""
        self._rows.lock((CHECKPOINTS, checkpoint_id))
        found: _Listed | None = self._rows.get(CHECKPOINTS, checkpoint_id)
        if found is not None:
            self._rows.put(CHECKPOINTS, checkpoint_id, (found[0], removing_at and _utc(removing_at)))

    def set_pin(self, checkpoint_id: str, pinned_at: datetime | None, reason: str = "") -> None:
        """See `CheckpointRepository.set_pin`."""
        self._set(checkpoint_id, pinned_at=pinned_at and _utc(pinned_at), pin_reason=reason)

    def set_verified(self, checkpoint_id: str, verified_at: datetime, damage: str) -> None:
        """See `CheckpointRepository.set_verified`."""
        self._set(checkpoint_id, verified_at=_utc(verified_at), damage=damage)

    def record_drill(
        self, checkpoint_id: str, at: datetime, *, restore_s: float | None = None, failure: str | None = None
    ) -> None:
        """See `CheckpointRepository.record_drill`."""
        proof = {} if failure else {"proven_at": _utc(at), "restore_s": restore_s}
        self._set(checkpoint_id, drilled_at=_utc(at), drill_failure=failure, **proof)

    def remove(self, checkpoint_id: str) -> None:
        """See `CheckpointRepository.remove`."""
        self._rows.lock((CHECKPOINTS, checkpoint_id))
        self._rows.put(CHECKPOINTS, checkpoint_id, GONE)

    def _set(self, checkpoint_id: str, **values: Any) -> None:
        self._rows.lock((CHECKPOINTS, checkpoint_id))
        found: _Listed | None = self._rows.get(CHECKPOINTS, checkpoint_id)
        if found is not None:
            self._rows.put(CHECKPOINTS, checkpoint_id, (replace(found[0], **values), found[1]))

    def _sorted(self, *, removing: bool) -> Checkpoints:
        rows: Mapping[str, _Listed] = self._rows.table(CHECKPOINTS)
        found = [checkpoint for checkpoint, removing_at in rows.values() if (removing_at is not None) is removing]
        return sorted(found, key=lambda checkpoint: (checkpoint.created_at, checkpoint.id), reverse=True)


class MemoryExaminations(ExaminationRepository):
    """See `ExaminationRepository`; a row is when it was recorded, and what was told."""

    def __init__(self, rows: Rows):
        self._rows = rows

    def record(self, token: str, host: str, report: Facts, now: datetime) -> None:
        """See `ExaminationRepository.record`."""
        del host
        rows: Mapping[str, tuple[datetime, Facts]] = self._rows.table(EXAMINATIONS)
        old = [key for key, (recorded_at, _) in rows.items() if recorded_at < now - KEPT]
        self._rows.lock(*((EXAMINATIONS, key) for key in (token, *old)))
        for key in old:
            self._rows.put(EXAMINATIONS, key, GONE)
        if self._rows.get(EXAMINATIONS, token) is None:
            self._rows.put(EXAMINATIONS, token, (_utc(now), _json(report)))

    def find(self, token: str) -> Facts | None:
        """See `ExaminationRepository.find`."""
        found: tuple[datetime, Facts] | None = self._rows.get(EXAMINATIONS, token)
        return found[1] if found else None


class MemoryCordons(CordonRepository):
    """See `CordonRepository`."""

    def __init__(self, rows: Rows):
        self._rows = rows

    def put(self, cordon: Cordon) -> None:
        """See `CordonRepository.put`."""
        self._rows.lock((CORDONS, cordon.host))
        stored = replace(cordon, since=_utc(cordon.since), return_at=cordon.return_at and _utc(cordon.return_at))
        self._rows.put(CORDONS, cordon.host, stored)

    def find(self, host: str) -> Cordon | None:
        """See `CordonRepository.find`."""
        return self._rows.get(CORDONS, host)

    def list(self) -> Cordons:
        """See `CordonRepository.list`."""
        return [cordon for _, cordon in sorted(self._rows.table(CORDONS).items())]

    def lift(self, host: str) -> None:
        """See `CordonRepository.lift`."""
        self._rows.lock((CORDONS, host))
        self._rows.put(CORDONS, host, GONE)


class MemoryDisplacements(DisplacementRepository):
    """See `DisplacementRepository`; the keys are home and workload."""

    def __init__(self, rows: Rows):
        self._rows = rows

    def put(self, displacement: Displacement) -> None:
        """See `DisplacementRepository.put`."""
        self._put(
            displacement.home, displacement.workload_id, replace(displacement, moved_at=_utc(displacement.moved_at))
        )

    def list(self, home: str) -> Displacements:
        """See `DisplacementRepository.list`."""
        rows: Mapping[str, Displacement] = self._rows.table(DISPLACEMENTS)
        found = [row for row in rows.values() if row.home == home]
        return sorted(found, key=lambda row: (row.namespace, row.container, row.workload_id))

    def remove(self, home: str, workload_id: str) -> None:
        """See `DisplacementRepository.remove`."""
        self._put(home, workload_id, GONE)

    def forget(self, home: str) -> None:
        """See `DisplacementRepository.forget`."""
        for row in self.list(home):
            self.remove(home, row.workload_id)

    def _put(self, home: str, workload_id: str, row: object) -> None:
        key = f"{home}/{workload_id}"
        self._rows.lock((DISPLACEMENTS, key))
        self._rows.put(DISPLACEMENTS, key, row)


def _holds(job: Job) -> bool:
    return job.phase not in FINISHED


def _alone_with(job: Job) -> str | None:
    return None if job.phase in TERMINAL else job.alone_with


def _age(job: Job) -> tuple[datetime, str]:
    return job.created_at, job.id


def _name(workload: Workload) -> tuple[str, str, str]:
    return workload.owner_host, workload.namespace, workload.container


def _unique(job: Job) -> list[Hashable]:
    """What no other row may have too."""
    return [(JOBS, name, value) for name, value in _unique_values(job).items() if value is not None]


def _unique_values(job: Job) -> dict[str, str | None]:
    return {
        "idempotency_key": job.idempotency_key,
        "workload_id": job.workload_id if _holds(job) else None,
        "alone_with": _alone_with(job),
    }


def _with_progress(current: Job, before: Job, after: Job) -> tuple[Step, ...]:
    """The steps to store: what a host reported meanwhile stays, unless another attempt begins or `after` says more."""
    if current.steps is before.steps:
        return after.steps
    kept = [_step_with_progress(*steps) for steps in zip(current.steps, before.steps, after.steps, strict=False)]
    return (*kept, *after.steps[len(kept) :])


def _step_with_progress(current: Step, before: Step, after: Step) -> Step:
    changed = (after.progress_bytes, after.total_bytes) != (before.progress_bytes, before.total_bytes)
    if changed or after.attempt != before.attempt:
        return after
    return replace(after, progress_bytes=current.progress_bytes, total_bytes=current.total_bytes)


def _storable(job: Job, before: Job | None = None) -> Job:
    """A job as a database gives it back: moments in UTC, JSON that shares nothing with the caller's."""
    known = before.steps if before else ()
    steps = tuple(
        step if position < len(known) and step is known[position] else _storable_step(step)
        for position, step in enumerate(job.steps)
    )
    same_failure = before is not None and job.failure is before.failure
    return replace(
        job,
        created_at=_utc(job.created_at),
        updated_at=_utc(job.updated_at),
        finished_at=job.finished_at and _utc(job.finished_at),
        failure=job.failure if same_failure else _json(job.failure),
        steps=steps,
    )


def _storable_step(step: Step) -> Step:
    return replace(
        step,
        started_at=step.started_at and _utc(step.started_at),
        finished_at=step.finished_at and _utc(step.finished_at),
        dispatched_at=step.dispatched_at and _utc(step.dispatched_at),
        facts=_json(step.facts),
        failure=_json(step.failure),
    )


def _utc(moment: datetime) -> datetime:
    if moment.tzinfo is UTC:
        return moment
    if moment.tzinfo is None:
        raise InternalError(f"a moment without a time zone: {moment}", code="database_misused")
    return moment.astimezone(UTC)


def _json(value: Any) -> Any:
    if not value:
        return value
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise InternalError(f"a value cannot be stored as JSON: {error}", code="database_misused") from error
