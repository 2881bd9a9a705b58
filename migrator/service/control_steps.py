"""The acts that the controller performs itself: they are about ownership and the catalogue, so about SQL."""

from __future__ import annotations

import json
import secrets
from datetime import UTC, datetime

from migrator.errors import NotFound
from migrator.models.descriptors import Descriptor
from migrator.models.phase import JobKind
from migrator.models.session import Database, Transaction
from migrator.models.values import Checkpoint, Facts, Job, Workload
from migrator.storage.checkpoints import CheckpointStore
from migrator.storage.oci import FactAnnotation, Role

ALPHABET = "23456789abcdefghjkmnpqrstvwxyz"
"""No letters or digits that are taken for each other."""


class ControlStep:
    """One act on the controller. `run` and `undo` may be repeated at any time."""

    name: str

    def run(self, job: Job) -> Facts:
        """Perform the act; `workload_id` and `epoch` among the facts become the job's own."""
        raise NotImplementedError

    def undo(self, job: Job) -> Facts:
        """Take the act back."""
        del job
        return {}


class Claim(ControlStep):
    """Take the workload for this job: nobody else moves it until the job has ended."""

    name = "claim"

    def __init__(self, database: Database):
        self._database = database

    def run(self, job: Job) -> Facts:
        """Find the workload by where it runs, or register it.

        Raises:
            ResourceBusy: `workload_busy`, another job works on this container.
        """
        host, container = str(job.request.source_host), str(job.request.container)
        with self._database.transaction() as tx:
            workload = tx.workloads.find(host, job.request.namespace, container)
            if workload is None:
                workload = Workload(new_id(container), job.request.namespace, container, host, 1)
                tx.workloads.add(workload)
            _forget_former(tx, job)
        return {
            "workload_id": workload.id,
            "epoch": workload.epoch,
            "checkpoint_workload": workload.id,
            "claimed_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        }


class Commit(ControlStep):
    """Move the workload's owner and raise its epoch: from here on it is the target's."""

    name = "commit"

    def __init__(self, database: Database):
        self._database = database

    def run(self, job: Job) -> Facts:
        """One compare-and-set; one that was made already by a lost attempt counts.

        Raises:
            PreconditionFailed: `commit_lost`, somebody else decided about this workload.
        """
        return self._move(job, str(job.request.target_host))

    def undo(self, job: Job) -> Facts:
        """Give the workload back to the source under a still higher epoch."""
        return self._move(job, str(job.request.source_host))

    def _move(self, job: Job, owner_host: str) -> Facts:
        workload_id = str(job.workload_id)
        with self._database.transaction() as tx:
            workload = tx.workloads.get(workload_id)
            if workload.owner_host != owner_host:
                workload = tx.workloads.commit(workload_id, epoch=job.epoch, owner_host=owner_host)
        return {"workload_id": workload.id, "epoch": workload.epoch}


class ReadCheckpoint(ControlStep):
    """Read what a restore needs to know from the sealed index."""

    name = "read-checkpoint"

    def __init__(self, database: Database, checkpoints: CheckpointStore):
        self._database = database
        self._checkpoints = checkpoints

    def run(self, job: Job) -> Facts:
        """Return the same facts that a migration learns from its source.

        Raises:
            NotFound: `checkpoint_not_found`.
            IntegrityError: The index is malformed or not the one that was sealed.
        """
        with self._database.transaction(write=False) as tx:
            known = tx.checkpoints.get(str(job.request.checkpoint_id))
        index = self._checkpoints.read_index(known.workload_id, known.id)
        annotations = index.annotations
        return {
            "image": {"name": known.image, "manifest": index.part(Role.IMAGE).to_oci()},
            "snapshot": json.loads(annotations[FactAnnotation.SNAPSHOT]),
            "source_name": known.container,
            "source_criu": annotations[FactAnnotation.CRIU],
            "checkpoint_workload": known.workload_id,
            "index_digest": known.index_digest,
            "memory_bytes": index.part(Role.MEMORY).size_bytes,
            "estimate_bytes": sum(part.size_bytes for part in index.parts),
        }


class Adopt(ControlStep):
    """Register the restored container as a workload of its own, owned by the target."""

    name = "adopt"

    def __init__(self, database: Database):
        self._database = database

    def run(self, job: Job) -> Facts:
        """Register it, once."""
        host = str(job.request.target_host)
        name = job.request.new_name or str(job.facts["source_name"])
        with self._database.transaction() as tx:
            workload = tx.workloads.find(host, job.request.namespace, name)
            if workload is None:
                workload = Workload(new_id(name), job.request.namespace, name, host, 1)
                tx.workloads.add(workload)
        return {"workload_id": workload.id, "epoch": workload.epoch}

    def undo(self, job: Job) -> Facts:
        """Forget the workload: it never ran."""
        adopted = job.facts.get("workload_id")
        if adopted:
            with self._database.transaction() as tx:
                tx.workloads.remove(str(adopted))
        return {}


class Settle(ControlStep):
    """Put a checkpoint into the catalogue, or take a migration's own out of the store again."""

    name = "settle"

    def __init__(self, database: Database, checkpoints: CheckpointStore):
        self._database = database
        self._checkpoints = checkpoints

    def run(self, job: Job) -> Facts:
        """Keep or discard."""
        if job.request.kind is JobKind.MIGRATION and not job.request.keep_checkpoint:
            return self._discard(job)
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
            created_at=datetime.fromisoformat(str(facts["claimed_at"])),
        )
        with self._database.transaction() as tx:
            try:
                tx.checkpoints.get(checkpoint.id)
            except NotFound:
                tx.checkpoints.add(checkpoint)
        return {}

    def _discard(self, job: Job) -> Facts:
        parts = [Descriptor.from_oci(part) for part in job.facts["parts"]]
        self._checkpoints.remove(str(job.workload_id), str(job.checkpoint_id), candidates=parts)
        return {"discarded": True}


def _forget_former(tx: Transaction, job: Job) -> None:
    """Drop the record of a container of that name on the target: preflight has just seen that it is gone."""
    if job.request.target_host is None:
        return
    former = tx.workloads.find(job.request.target_host, job.request.namespace, str(job.request.container))
    if former is not None:
        tx.workloads.remove(former.id)


def new_id(prefix: str) -> str:
    """Make an identifier that a person can read out: a prefix and ten signs by chance."""
    plain = "".join(sign if sign.isalnum() or sign in "-_" else "-" for sign in prefix)[:40]
    return f"{plain}-{''.join(secrets.choice(ALPHABET) for _ in range(10))}"


def control_steps(database: Database, checkpoints: CheckpointStore) -> dict[str, ControlStep]:
    """All acts of the controller by name."""
    steps: list[ControlStep] = [
        Claim(database),
        Commit(database),
        ReadCheckpoint(database, checkpoints),
        Adopt(database),
        Settle(database, checkpoints),
    ]
    return {step.name: step for step in steps}
