"""Frozen tasks, and the records of pause guards that are dead.

A task is resumed only if a record of ours says that we froze it. What somebody else has paused is told and left alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from functools import partial

from migrator.containerd import ContainerdClient, ProcessState, try_to_thaw
from migrator.errors import MigratorError, NotFound, ResourceBusy
from migrator.gen.containerd.types.task import task_pb2
from migrator.models.housekeeping import FindingKind
from migrator.service.guards import GuardFile, GuardRecord, GuardState
from migrator.service.host import Host
from migrator.service.housekeeping.leftovers import Leftover, Need, changed_at
from migrator.service.identifiers import find_job
from migrator.service.network.rejoining import rejoin

FREEZING = (GuardState.ARMED, GuardState.PROMISED)
"""In these states the guard has not let the task run again."""
NOT_FROZEN = (ProcessState.CREATED, ProcessState.RUNNING, ProcessState.STOPPED)


def find_frozen(host: Host) -> Iterator[Leftover]:
    """Look for dead guards, for tasks that they left frozen, and for tasks that somebody else has paused."""
    records: set[str] = set()
    for file in host.guards.list():
        record = read_record(file)
        if record:
            records.add(container_of(record))
        if record is None or not host.guards.watched(record):
            yield _guard_left(host, file, record)
    for name in sorted(paused_tasks(host) - records):
        yield Leftover(
            FindingKind.FROZEN,
            name.partition("/")[2],
            Need.NEVER,
            "paused by somebody else",
            _nothing,
            namespace=name.partition("/")[0],
            container=name,
        )


def guarded_containers(host: Host) -> set[str]:
    """The containers that some guard record names, as `namespace/name`."""
    return {container_of(record) for file in host.guards.list() if (record := read_record(file))}


def read_record(file: GuardFile) -> GuardRecord | None:
    """Read a record; None when there is none or nobody can read it."""
    with suppress(ValueError, TypeError):
        return file.read()
    return None


def container_of(record: GuardRecord) -> str:
    """The container that a guard was for, as `namespace/name`."""
    return f"{record.namespace}/{record.container}"


def paused_tasks(host: Host) -> set[str]:
    """The tasks of all namespaces that are paused, as `namespace/name`."""
    return {
        f"{namespace.name}/{task.id}"
        for namespace in host.containerd.namespaces.list()
        for task in host.runtime(namespace.name).tasks()
        if task.status == task_pb2.PAUSED
    }


def _guard_left(host: Host, file: GuardFile, record: GuardRecord | None) -> Leftover:
    job_id = file.path.stem
    frozen = record is not None and record.state in FREEZING and _is_paused(host, record)
    return Leftover(
        FindingKind.FROZEN if frozen else FindingKind.GUARD,
        record.container if record else file.path.name,
        Need.OURS_FROZEN if frozen else Need.JOB_OVER,
        f"frozen by a job whose guard is dead ({record.state.value})"
        if record and frozen
        else "the record of a guard that is dead",
        partial(_resume, host, record) if record and frozen else partial(_forget, host, job_id, record),
        namespace=record.namespace if record else "",
        since=changed_at(file.path) or changed_at(file.path.with_suffix(".lock")),
        job_id=job_id if find_job(job_id) else "",
        container=container_of(record) if record else "",
    )


def _is_paused(host: Host, record: GuardRecord) -> bool:
    """Whether the task is paused; unknown counts as paused, so that the record stays."""
    try:
        return host.runtime(record.namespace).task(record.container).status().state not in NOT_FROZEN
    except NotFound:
        return False
    except MigratorError:
        return True


def _resume(host: Host, record: GuardRecord) -> None:
    """Let a task run that a dead guard's record says we froze, unless another job has a record of it by now.

    A job writes its record before it freezes, and promises only after it has seen the task frozen once more. So what
    runs from here on cannot be given away.
    """
    mine = [file for file in host.guards.list() if (found := read_record(file)) and _same_container(found, record)]
    if len(mine) != 1:
        raise ResourceBusy(f"another job works on container '{record.container}'", code="container_busy")
    failure = _thaw(host.runtime(record.namespace), record.container)
    if failure is not None:
        raise failure
    _forget(host, record.job_id, record)


def _forget(host: Host, job_id: str, record: GuardRecord | None) -> None:
    """Drop a dead guard's record; what it says was cut off is joined again if it runs."""
    if record is not None and record.network is not None:
        with suppress(NotFound):
            task = host.runtime(record.namespace).task(record.container)
            if task.status().state is ProcessState.RUNNING:
                rejoin(record.network, task.pid)
    host.guards.forget(job_id)


def _same_container(first: GuardRecord, second: GuardRecord) -> bool:
    return container_of(first) == container_of(second)


def _thaw(runtime: ContainerdClient, container: str) -> MigratorError | None:
    try:
        return try_to_thaw(runtime.task(container))
    except NotFound:
        return None


def _nothing() -> None:
    """What is not ours stays as it is."""
