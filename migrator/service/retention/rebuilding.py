"""Bring checkpoints that only the object store knows back into the catalogue: SQL was lost, or a row of it.

Nothing that SQL knows is changed, so it may be repeated at any time. What comes back: every sealed checkpoint with its
pin, and for these the workload that it is of, so that the next backup of the same container belongs to it again. What
does not: jobs, schedules, hosts (workers tell of themselves). A checkpoint that is being removed, or that belongs to a
job that SQL knows and that did not mean to keep it, stays out.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

from migrator.errors import AlreadyExists, IntegrityError, MigratorError, NotFound, ResourceBusy
from migrator.models.phase import JobKind, Phase
from migrator.models.roles import Role
from migrator.models.session import Database, Transaction
from migrator.models.values import Checkpoint, Job, Workload
from migrator.storage.checkpoints import CheckpointStore, SealedCheckpoint
from migrator.storage.chunks import is_chunked, part_of
from migrator.storage.oci import CheckpointIndex, FactAnnotation, parse_index
from migrator.storage.pins import Pins

IMAGE_NAME = "image.name"


def rebuild_catalogue(database: Database, checkpoints: CheckpointStore, pulse: Callable[[], None]) -> list[str]:
    """Add what is missing; return the ids of the checkpoints that were added."""
    with database.transaction(write=False) as tx:
        known = {found.id for found in (*tx.checkpoints.list(), *tx.checkpoints.removing())}
    added = []
    # The newest first: it tells where its workload was last.
    for sealed in sorted(checkpoints.sealed(), key=lambda found: found.sealed_at, reverse=True):
        pulse()
        if sealed.checkpoint_id in known:
            continue
        with suppress(IntegrityError, NotFound):  # damaged, or removed since it was listed
            index = parse_index(checkpoints.read_index_bytes(sealed.workload_id, sealed.checkpoint_id))
            found = read_checkpoint(checkpoints, sealed, index)
            with suppress(AlreadyExists), database.transaction() as tx:
                if _is_wanted(tx, found):
                    tx.checkpoints.add(found)
                    _add_workload(tx, found, index)
                    added.append(found.id)
    return added


def read_checkpoint(checkpoints: CheckpointStore, sealed: SealedCheckpoint, index: CheckpointIndex) -> Checkpoint:
    """Read from a sealed index what the catalogue tells of it."""
    told = index.annotations
    pin = Pins(checkpoints.objects).read(sealed.checkpoint_id)
    return Checkpoint(
        id=sealed.checkpoint_id,
        workload_id=sealed.workload_id,
        job_id=told.get(FactAnnotation.JOB),
        host=told.get(FactAnnotation.HOST, ""),
        namespace=told.get(FactAnnotation.NAMESPACE, "default"),
        container=told.get(FactAnnotation.CONTAINER, ""),
        image=told.get(IMAGE_NAME, ""),
        index_digest=index.digest,
        size_bytes=_size_bytes(checkpoints, index),
        created_at=_moment(told.get(FactAnnotation.CREATED, ""), sealed.sealed_at),
        backup=any(map(is_chunked, index.parts)),
        schedule=told.get(FactAnnotation.SCHEDULE) or None,
        pinned_at=pin.at if pin else None,
        pin_reason=pin.reason if pin else "",
    )


def _size_bytes(checkpoints: CheckpointStore, index: CheckpointIndex) -> int:
    """Of all parts as they were, and of the base image; if that cannot be read, of what the index names."""
    own = sum(part_of(part).size_bytes for part in index.parts if index.role_of(part) != Role.IMAGE)
    try:
        blobs = checkpoints.reachable(index)
    except MigratorError:
        return own
    named = {part.digest for part in index.parts if index.role_of(part) != Role.IMAGE}
    return own + sum(blob.size_bytes for blob in blobs if blob.digest not in named)


def _moment(text: str, otherwise: datetime) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return otherwise
    return found if found.tzinfo else otherwise


def _is_wanted(tx: Transaction, found: Checkpoint) -> bool:
    try:
        job: Job = tx.jobs.get(found.job_id or "")
    except NotFound:
        return True
    temporary = job.request.kind is JobKind.MIGRATION and not job.request.keep_checkpoint
    return job.phase is Phase.SUCCEEDED and not temporary


def _add_workload(tx: Transaction, found: Checkpoint, index: CheckpointIndex) -> None:
    """Let the workload be where it was frozen, unless SQL knows better."""
    told = index.annotations.get(FactAnnotation.EPOCH, "")
    epoch = int(told) if told.isascii() and told.isdigit() and len(told) < 18 else 1
    workload = Workload(found.workload_id, found.namespace, found.container, found.host, epoch)
    if tx.workloads.find(found.host, found.namespace, found.container) is not None:
        return
    try:
        tx.workloads.get(found.workload_id)
    except NotFound:
        with suppress(AlreadyExists, ResourceBusy):
            tx.workloads.add(workload)
