"""What crashes left in the object store. The controller looks, which knows all jobs and the catalogue."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import structlog

from migrator.errors import IntegrityError, NotFound, ResourceBusy
from migrator.models.phase import JobKind, Phase
from migrator.models.session import Database
from migrator.models.values import Job
from migrator.service.control.rounds import utc_now
from migrator.service.housekeeping.referee import is_over
from migrator.service.identifiers import find_job
from migrator.service.retention.pruning import find_cutoff
from migrator.service.retention.removal import Remover
from migrator.storage import layout
from migrator.storage.checkpoints import CheckpointStore, SealedCheckpoint
from migrator.storage.oci import FactAnnotation
from migrator.storage.probing import PROBES
from migrator.storage.prune.notes import PruneLock
from migrator.storage.prune.pruner import Pruner

OLD = timedelta(days=1)
"""No step may take so long. A base image that no checkpoint names makes the next move short for that long."""
log = structlog.get_logger()


class StoreKeeper:
    """Keeps the object store tidy.

    Args:
        database: Where jobs and the catalogue live.
        checkpoints: The store.
        now: The clock.
    """

    def __init__(self, database: Database, checkpoints: CheckpointStore, *, now: Callable[[], datetime] = utc_now):
        self._database = database
        self._checkpoints = checkpoints
        self._objects = checkpoints.objects
        self._now = now

    def sweep(self) -> None:
        """Remove every kind: what may name others first, blobs last."""
        for kind, act in (
            ("forgotten checkpoints", Remover(self._database, self._checkpoints, self._now).finish_all),
            ("uploads", self.abort_uploads),
            ("probes and verdicts", self.remove_notes),
            ("checkpoints", self.remove_temporary_checkpoints),
            ("blobs and packs", self.prune),
        ):
            if removed := act():
                log.info("removed from the store", kind=kind, removed=removed)

    def abort_uploads(self) -> list[str]:
        """End multipart uploads that were begun long ago."""
        return self._objects.abort_uploads("", OLD.total_seconds())

    def remove_notes(self) -> list[str]:
        """Remove what checks of the store left, verdicts on jobs that are over, signatures of nothing."""
        doomed = [info.key for info in self._objects.scan(PROBES) if self._now() - info.modified_at > OLD]
        doomed += [
            info.key
            for info in self._objects.scan(layout.VERDICTS)
            if self._over(info.key.removeprefix(layout.VERDICTS)) is not None
        ]
        doomed += self._checkpoints.orphaned_signatures(self._now() - OLD)
        for key in doomed:
            self._objects.delete(key)
        return doomed

    def remove_temporary_checkpoints(self) -> list[str]:
        """Remove checkpoints that jobs made for themselves, or took back, and that are not in the catalogue."""
        doomed = list(self._temporary())
        for sealed in doomed:
            self._checkpoints.remove(sealed.workload_id, sealed.checkpoint_id)
        return [sealed.checkpoint_id for sealed in doomed]

    def prune(self) -> list[str]:
        """Free what no checkpoint has needed for a day, as `migrator prune` does, unless one is under way."""
        cutoff = find_cutoff(self._database, OLD, self._now())
        lock = PruneLock(self._objects, "sweep")
        try:
            plan, _ = Pruner(self._checkpoints).run(cutoff, lock)
        except ResourceBusy as error:
            log.info("no prune now", reason=str(error))
            return []
        for words in plan.damaged:
            log.warning("left alone in the store for the sake of what is damaged", damaged=words, objects=plan.left)
        return [*plan.blobs, *plan.packs]

    def _temporary(self) -> Iterator[SealedCheckpoint]:
        with self._database.transaction(write=False) as tx:
            kept = {checkpoint.id for checkpoint in tx.checkpoints.list()}
        for sealed in self._checkpoints.sealed():
            if sealed.checkpoint_id not in kept and self._is_temporary(sealed):
                yield sealed

    def _is_temporary(self, sealed: SealedCheckpoint) -> bool:
        """Whether the job that sealed it is over and did not mean to keep it."""
        try:
            index = self._checkpoints.read_index(sealed.workload_id, sealed.checkpoint_id)
        except (NotFound, IntegrityError):
            return False
        job = self._over(index.annotations.get(FactAnnotation.JOB, ""))
        return job is not None and not _meant_to_keep(job)

    def _over(self, job_id: str) -> Job | None:
        """A job if it is known to be over; None about everything else."""
        if find_job(job_id) != job_id:
            return None
        try:
            with self._database.transaction(write=False) as tx:
                job = tx.jobs.get(job_id)
        except NotFound:
            return None
        return job if is_over(job, self._now()) else None


def _meant_to_keep(job: Job) -> bool:
    """A job that succeeded keeps its checkpoint, unless it is a migration that was not asked to."""
    temporary = job.request.kind is JobKind.MIGRATION and not job.request.keep_checkpoint
    return job.phase is Phase.SUCCEEDED and not temporary
