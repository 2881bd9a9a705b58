"""What the controller answers for a host that was removed: it will never come back, nor what it held."""

from __future__ import annotations

from migrator.errors import WorkloadFailed
from migrator.models.descriptors import Descriptor
from migrator.models.values import Facts, Job
from migrator.service.catalogue import SOURCE_GONE, TARGET_GONE, last_copy, release_chunks
from migrator.service.control.control_steps import ControlStep
from migrator.storage.checkpoints import CheckpointStore
from migrator.storage.own import OwnContent
from migrator.storage.verdicts import Verdicts


class NoAct(ControlStep):
    """Of most steps nothing is left: done and undone are the same."""

    def run(self, job: Job) -> Facts:
        """Nothing to do."""
        del job
        return {}


class LostSource(ControlStep):
    """The frozen program went with its host."""

    def __init__(self, verdicts: Verdicts):
        self._verdicts = verdicts

    def undo(self, job: Job) -> Facts:
        """Nobody asks for the verdict any more."""
        self._verdicts.forget(job.id)
        return {SOURCE_GONE: True}


class LostUpload(ControlStep):
    """What the host had sent is all that is left of its program."""

    def __init__(self, checkpoints: CheckpointStore):
        self._checkpoints = checkpoints

    def undo(self, job: Job) -> Facts:
        """Keep what was sealed; take out what was not."""
        workload_id, checkpoint_id = str(job.workload_id), str(job.checkpoint_id)
        image_bytes = int(job.facts.get("image_bytes", 0))
        kept = last_copy(self._checkpoints, job.id, workload_id, checkpoint_id, image_bytes)
        if kept is None:
            parts = [Descriptor.from_oci(part) for part in job.facts.get("parts", [])]
            OwnContent(self._checkpoints, job.id).withdraw(workload_id, checkpoint_id, parts)
        return {SOURCE_GONE: True, **(kept or {})}


class LostPrecopy(ControlStep):
    """What the host had sent ahead of the freeze."""

    def __init__(self, checkpoints: CheckpointStore):
        self._checkpoints = checkpoints

    def undo(self, job: Job) -> Facts:
        """Take it out of the store."""
        release_chunks(self._checkpoints, job.id, job.facts)
        return {}


class LostTarget(ControlStep):
    """What was to be seen of the restored program nobody has seen, and nobody will.

    Args:
        what: What that was.
    """

    def __init__(self, what: str):
        self._what = what

    def run(self, job: Job) -> Facts:
        """Leave it to an operator: it may have run for a moment.

        Raises:
            WorkloadFailed: `host_removed`.
        """
        raise WorkloadFailed(
            f"what was restored on host '{job.request.target_host}' was lost with it before {self._what}",
            code="host_removed",
            host=job.request.target_host,
        )


class LostSuccessor(ControlStep):
    """What was moved went with its target; its source is removed."""

    def run(self, job: Job) -> Facts:
        """Let `settle` keep what was sealed: it is the last copy."""
        del job
        return {TARGET_GONE: True}


def stand_ins(checkpoints: CheckpointStore) -> dict[str, ControlStep]:
    """Those that have something to say, by step name; `NoAct` stands in for all others."""
    return {
        "freeze": LostSource(Verdicts(checkpoints.objects)),
        "precopy": LostPrecopy(checkpoints),
        "upload": LostUpload(checkpoints),
        "prove": LostTarget("anybody saw it run"),
        "fill": LostTarget("all of its memory was known to be there"),
        "release-target": LostSuccessor(),
    }
