"""What steps of crashed workers left on this host, one function a kind. They look and touch nothing.

A leftover carries its own removal, and the condition under which that is safe (`Need`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from functools import partial
from pathlib import Path

from migrator.containerd import Container, ContainerdClient, ProcessState
from migrator.containerd.values import Labels
from migrator.criu.leftovers import remove_tree
from migrator.errors import NotFound
from migrator.models.housekeeping import FindingKind
from migrator.service.host import Host
from migrator.service.identifiers import find_job
from migrator.service.network.handover import abandon
from migrator.service.steps.ending import delete_container, end_task
from migrator.service.steps.image import JOB_LABEL, drop_lease
from migrator.service.steps.interface import ROOMS
from migrator.service.volumes.places import Places, Record, kept_records

LABELLED = f'labels."{JOB_LABEL}"'
VIEW_PREFIX = "migrator-view-"
INGEST_PREFIX = "migrator-"
SNAPSHOTTERS = "type==io.containerd.snapshotter.v1"


class Need(Enum):
    """What must be known before something may be removed."""

    JOB_OVER = "job over"
    """The job that made it has ended, however."""
    TAKEN_BACK = "taken back"
    """Its job has ended without success, and the container is no workload of this host. After a success it is the
    user's."""
    NO_TWIN = "no twin"
    """Never removed, since its task lives; but if its job was taken back, two copies may run."""
    OURS_FROZEN = "ours, frozen"
    """Its job has ended, and the container belongs to this host and to no job: it may run again."""
    WORKLOAD_GONE = "workload gone"
    """The workload no longer exists, and no job is about it."""
    AGE = "age"
    """It has lain about for a while, and no lease holds it."""
    NOTHING = "nothing"
    """Nobody is asked: what is seen here is enough."""
    NEVER = "never"
    """Not ours: it is only told."""


@dataclass(frozen=True, slots=True)
class Leftover:
    """Something that lies about on this host."""

    kind: FindingKind
    name: str
    need: Need
    what: str
    """What it is, in a few words."""
    remove: Callable[[], None]
    namespace: str = ""
    since: datetime | None = None
    job_id: str = ""
    workload_id: str = ""
    container: str = ""
    """The container that it is about, `namespace/name`."""
    leased: bool = False


def find_leftovers(host: Host) -> Iterator[Leftover]:
    """Look for everything that steps make on a host."""
    yield from find_directories(host)
    yield from find_rooms(host)
    yield from find_epochs(host)
    yield from find_volumes(host)
    for namespace in host.containerd.namespaces.list():
        runtime = host.runtime(namespace.name)
        leased = leased_resources(runtime)
        yield from find_leases(runtime)
        yield from find_containers(runtime)
        yield from find_ingests(runtime, leased)
        for snapshotter in _snapshotters(runtime):
            yield from find_snapshots(runtime, snapshotter)
            yield from find_views(runtime, snapshotter, leased)


def find_leases(runtime: ContainerdClient) -> Iterator[Leftover]:
    """Leases of jobs."""
    for lease in runtime.leases.list():
        if job_id := find_job(lease.id):
            yield Leftover(
                FindingKind.LEASE,
                lease.id,
                Need.JOB_OVER,
                "keeps what the job made from containerd's garbage collector",
                partial(drop_lease, runtime, lease.id),
                namespace=runtime.namespace,
                since=lease.created_at,
                job_id=job_id,
            )


def find_containers(runtime: ContainerdClient) -> Iterator[Leftover]:
    """Containers that a job made and did not hand over; one whose task lives is not removed."""
    for container in runtime.containers.list(LABELLED):
        yield Leftover(
            FindingKind.CONTAINER,
            container.id,
            Need.NO_TWIN if _lives(runtime, container) else Need.TAKEN_BACK,
            "made by a restore and not handed over yet",
            partial(_remove_container, runtime, container),
            namespace=runtime.namespace,
            since=container.created_at,
            job_id=_job_of(container.labels),
            container=f"{runtime.namespace}/{container.id}",
        )


def find_snapshots(runtime: ContainerdClient, snapshotter: str) -> Iterator[Leftover]:
    """Snapshots that a job made and no container uses."""
    used = {container.snapshot_key for container in runtime.containers.list()}
    for snapshot in runtime.snapshots(snapshotter).list(LABELLED):
        if snapshot.name not in used:
            yield Leftover(
                FindingKind.SNAPSHOT,
                snapshot.name,
                Need.TAKEN_BACK,
                "prepared for a container that never ran here",
                partial(_remove_snapshot, runtime, snapshotter, snapshot.name, snapshot.labels[JOB_LABEL]),
                namespace=runtime.namespace,
                since=snapshot.created_at,
                job_id=_job_of(snapshot.labels),
                container=f"{runtime.namespace}/{snapshot.name}",
            )


def find_views(runtime: ContainerdClient, snapshotter: str, leased: frozenset[str]) -> Iterator[Leftover]:
    """Views that were made to compare a snapshot with its parent."""
    for snapshot in runtime.snapshots(snapshotter).list():
        if snapshot.name.startswith(VIEW_PREFIX):
            yield Leftover(
                FindingKind.VIEW,
                snapshot.name,
                Need.AGE,
                "made to find the changed files of a container",
                partial(runtime.snapshots(snapshotter).remove, snapshot.name),
                namespace=runtime.namespace,
                since=snapshot.created_at,
                leased=snapshot.name in leased,
            )


def find_ingests(runtime: ContainerdClient, leased: frozenset[str]) -> Iterator[Leftover]:
    """Blobs on their way into the content store."""
    for ingest in runtime.content.ingests():
        if ingest.ref.startswith(INGEST_PREFIX):
            job_id = find_job(ingest.ref) or ""
            yield Leftover(
                FindingKind.INGEST,
                ingest.ref,
                Need.JOB_OVER if job_id else Need.AGE,
                "a blob that was never written to its end",
                partial(runtime.content.abort, ingest.ref),
                namespace=runtime.namespace,
                since=ingest.updated_at or ingest.started_at,
                job_id=job_id,
                leased=ingest.ref in leased,
            )


def find_directories(host: Host) -> Iterator[Leftover]:
    """CRIU's images and logs of jobs: memory of a program, which must not lie about."""
    for place in (host.settings.run_dir / "criu", host.settings.state_dir / "criu"):
        for directory in _entries(place):
            if job_id := find_job(directory.name):
                yield Leftover(
                    FindingKind.DIRECTORY,
                    str(directory),
                    Need.JOB_OVER,
                    "CRIU's images and logs",
                    partial(remove_tree, directory),
                    since=changed_at(directory),
                    job_id=job_id,
                )


def find_volumes(host: Host) -> Iterator[Leftover]:
    """Volumes that a job made and did not hand over."""
    directory = host.settings.state_dir / "volumes"
    for job_id, record, since in kept_records(directory):
        yield Leftover(
            FindingKind.VOLUME,
            ", ".join(placed.path for placed in record.placed) or str(directory / job_id),
            Need.NO_TWIN if _is_used(host, record) else Need.TAKEN_BACK,
            "made for a container that never ran here",
            Places(directory, job_id).take_back,
            namespace=record.container.partition("/")[0],
            since=since,
            job_id=job_id,
            container=record.container,
        )


def _is_used(host: Host, record: Record) -> bool:
    """Whether the container that volumes were made for runs after all."""
    namespace, _, name = record.container.partition("/")
    runtime = host.runtime(namespace)
    try:
        return _lives(runtime, runtime.containers.get(name))
    except NotFound:
        return False


def find_rooms(host: Host) -> Iterator[Leftover]:
    """Interfaces that wait for a container which a job was to bring."""
    for marker in _entries(host.settings.state_dir / ROOMS):
        if marker.suffix == ".json" and (job_id := find_job(marker.stem)):
            yield Leftover(
                FindingKind.NETWORK,
                str(marker),
                Need.JOB_OVER,
                "a network interface made for a container before its move",
                partial(abandon, marker, host.settings.run_dir / ROOMS),
                since=changed_at(marker),
                job_id=job_id,
            )


def find_epochs(host: Host) -> Iterator[Leftover]:
    """Epochs of workloads; the controller knows which of them are gone."""
    for workload_id, since in host.fence.seen():
        yield Leftover(
            FindingKind.EPOCH,
            workload_id,
            Need.WORKLOAD_GONE,
            "the highest epoch seen of a workload",
            partial(host.fence.forget, workload_id),
            since=since,
            workload_id=workload_id,
        )


def leased_resources(runtime: ContainerdClient) -> frozenset[str]:
    """The names of all snapshots and ingests that some lease of the namespace holds."""
    held: set[str] = set()
    for lease in runtime.leases.list():
        try:
            held |= {resource.id for resource in runtime.leases.list_resources(lease.id)}
        except NotFound:
            continue  # given back since it was listed
    return frozenset(held)


def _job_of(labels: Labels) -> str:
    """The job that a label names; a rewind marks its two containers each in its own way."""
    return find_job(labels[JOB_LABEL]) or labels[JOB_LABEL]


def _lives(runtime: ContainerdClient, container: Container) -> bool:
    """Whether a container's task may still do something; one whose state nobody can tell counts as living."""
    try:
        state = runtime.task(container.id).status().state
    except NotFound:
        return False
    return state not in (ProcessState.CREATED, ProcessState.STOPPED)


def _remove_container(runtime: ContainerdClient, seen: Container) -> None:
    """Remove a container if it is still the one that was judged and still does not live."""
    try:
        current = runtime.containers.get(seen.id)
    except NotFound:
        return
    same = current.created_at == seen.created_at and current.labels.get(JOB_LABEL) == seen.labels[JOB_LABEL]
    if same and not _lives(runtime, current):
        end_task(runtime, current.id)
        delete_container(runtime, current.id)


def _remove_snapshot(runtime: ContainerdClient, snapshotter: str, key: str, job_id: str) -> None:
    """Remove a snapshot if it is still the job's and still no container uses it."""
    snapshots = runtime.snapshots(snapshotter)
    used = any(container.snapshot_key == key for container in runtime.containers.list())
    if not used and snapshots.stat(key).labels.get(JOB_LABEL) == job_id:
        snapshots.remove(key)


def _snapshotters(runtime: ContainerdClient) -> list[str]:
    return [plugin.id for plugin in runtime.introspection.plugins(SNAPSHOTTERS) if not plugin.problem]


def _entries(directory: Path) -> list[Path]:
    return sorted(directory.iterdir()) if directory.is_dir() else []


def changed_at(path: Path) -> datetime | None:
    """When a file or directory last changed; None when it is gone."""
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except FileNotFoundError:
        return None
