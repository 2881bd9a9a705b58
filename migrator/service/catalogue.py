"""How a sealed checkpoint comes into the catalogue: because somebody wants it, or because it is all that is left."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from migrator.errors import IntegrityError, NotFound, ResourceBusy, Unavailable, WorkloadFailed
from migrator.models.phase import JobKind, Phase
from migrator.models.roles import ROLE_ANNOTATION, Role
from migrator.models.session import Transaction
from migrator.models.values import Checkpoint, Facts, Job
from migrator.storage.checkpoints import CheckpointStore
from migrator.storage.chunks import part_of
from migrator.storage.oci import parse_index
from migrator.storage.own import OwnContent

SOURCE_GONE = "source_gone"
"""Fact of a rollback: the program that was frozen does not live any more."""
SOURCE_RUNS = "source_runs"
"""Fact of a rollback: a task of the container runs, the same or a later one."""
TARGET_GONE = "target_gone"
"""Fact of a migration: its target was removed after the proof, so that what was sealed is all that is left."""
NOT_BROUGHT_BACK = "not_brought_back"
"""Fact of a rollback: why a program that was displaced could not be brought back from its images."""
LAST_COPY = "last_copy"
"""Fact of a rollback: the checkpoint stays in the store, whole, because of that."""


def enter_checkpoint(tx: Transaction, job: Job) -> None:
    """Put a job's checkpoint into the catalogue, once."""
    facts = job.facts
    checkpoint = Checkpoint(
        id=str(job.checkpoint_id),
        workload_id=str(job.workload_id),
        job_id=job.id,
        host=str(job.request.source_host),
        namespace=job.request.namespace,
        container=str(job.request.container),
        image=str(facts["image"]["name"]),
        index_digest=str(facts["index_digest"]),
        size_bytes=int(facts["checkpoint_bytes"]),
        backup=job.request.kind is JobKind.BACKUP,
        stored_bytes=int(facts.get("stored_bytes", 0)),
        created_at=datetime.fromisoformat(str(facts["claimed_at"])),
        schedule=job.request.schedule,
    )
    try:
        tx.checkpoints.get(checkpoint.id)
    except NotFound:
        tx.checkpoints.add(checkpoint)


def last_copy(
    checkpoints: CheckpointStore, job_id: str, workload_id: str, checkpoint_id: str, image_bytes: int
) -> Facts | None:
    """What the catalogue must know of a checkpoint that was sealed and is still whole; None if there is none.

    Args:
        checkpoints: Where it would be.
        job_id: The job that made it; what it wrote for it belongs to everybody from now on.
        workload_id: Its workload.
        checkpoint_id: Its id.
        image_bytes: The size of the base image, which counts with it.
    """
    try:
        index = checkpoints.read_index_bytes(workload_id, checkpoint_id)
        own = checkpoints.chunks.own_pack_indexes(job_id)
        digest = checkpoints.seal(workload_id, checkpoint_id, index, own=own)  # looks at every blob once more
        OwnContent(checkpoints, job_id).keep()
    except (NotFound, ResourceBusy):
        return None
    except IntegrityError as error:  # of a passing kind, perhaps: nothing is taken out before it can be read
        raise Unavailable(
            f"checkpoint {checkpoint_id} cannot be read: {error.message}", code="last_copy_unread", remedy=error.remedy
        ) from error
    parts = map(part_of, parse_index(index).parts)
    rest = [part for part in parts if part.annotations.get(ROLE_ANNOTATION) != Role.IMAGE]
    size_bytes = sum(part.size_bytes for part in rest) + image_bytes
    return {LAST_COPY: True, "index_digest": digest, "checkpoint_bytes": size_bytes}


def release_chunks(checkpoints: CheckpointStore, job_id: str, facts: Facts) -> None:
    """Take the chunks that a job wrote for itself out of the store, unless its checkpoint is the last copy.

    Args:
        checkpoints: The store.
        job_id: The job.
        facts: What its steps and their undos found out.
    """
    if not facts.get(LAST_COPY):
        OwnContent(checkpoints, job_id).discard()


def keep_last_copy(tx: Transaction, job: Job) -> Job:
    """The end of a rollback whose program was lost on the way: say so, and what is left of it."""
    facts = job.facts
    if job.phase not in (Phase.FAILED, Phase.CANCELLED) or not facts.get(SOURCE_GONE):
        return job
    kept = bool(facts.get(LAST_COPY))
    if kept:
        enter_checkpoint(tx, job)
    elif facts.get(SOURCE_RUNS):
        return job
    return replace(job, phase=Phase.FAILED, failure=_tell(job, kept=kept).to_dict())


def _tell(job: Job, *, kept: bool) -> WorkloadFailed:
    request, first = job.request, (job.failure or {}).get("message")
    state = f"its checkpoint {job.checkpoint_id} is kept" if kept else "it was not sealed yet"
    fault = job.facts.get(NOT_BROUGHT_BACK)
    remedy = (
        f"remove what is left of the container, then bring it back: migrator restore {job.checkpoint_id} HOST"
        if kept
        else f"its files are still there; start it from them: ctr tasks start --detach {request.container}"
    )
    return WorkloadFailed(
        f"the program that was frozen in container '{request.container}' is gone"
        f"{f' ({fault})' if fault else ''}; {state}" + (f" (after: {first})" if first else ""),
        code=SOURCE_GONE,
        host=request.source_host,
        remedy=remedy,
    )
