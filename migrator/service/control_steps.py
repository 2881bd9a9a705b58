"""The acts that the controller performs itself and that need the object store; those of SQL alone are `decisions`."""

from __future__ import annotations

from datetime import datetime

from migrator.errors import NotFound
from migrator.models.descriptors import Descriptor
from migrator.models.phase import JobKind
from migrator.models.roles import Role
from migrator.models.session import Database
from migrator.models.values import Checkpoint, Facts, Job
from migrator.service.network.attachment import pack_attachment, read_attachment
from migrator.storage.checkpoints import CheckpointStore
from migrator.storage.oci import FactAnnotation


class ControlStep:
    """One act on the controller. `run` and `undo` may be repeated at any time."""

    name: str

    def run(self, job: Job) -> Facts:
        """Perform the act and say what the steps after it need to know."""
        raise NotImplementedError

    def undo(self, job: Job) -> Facts:
        """Take the act back."""
        del job
        return {}


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
        return {
            "image": {"name": known.image, "manifest": index.part(Role.IMAGE).to_oci()},
            "snapshot": index.snapshot(),
            "network": pack_attachment(read_attachment(index.told(FactAnnotation.NETWORK, None))),
            "criu_options": index.told(FactAnnotation.CRIU_OPTIONS, []),
            "source_name": known.container,
            "source_criu": index.fact(FactAnnotation.CRIU),
            "checkpoint_workload": known.workload_id,
            "index_digest": known.index_digest,
            "memory_bytes": index.part(Role.MEMORY).size_bytes,
            "estimate_bytes": sum(part.size_bytes for part in index.parts),
        }


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


def control_steps(database: Database, checkpoints: CheckpointStore) -> dict[str, ControlStep]:
    """All of them by name."""
    steps: list[ControlStep] = [ReadCheckpoint(database, checkpoints), Settle(database, checkpoints)]
    return {step.name: step for step in steps}
