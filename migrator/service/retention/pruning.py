"""A job that prunes: how old something must be follows from the grace time and from the jobs under way."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from migrator.errors import NotFound
from migrator.models.phase import JobKind
from migrator.models.retention import PruneRequest
from migrator.models.session import Database
from migrator.models.values import Facts, Job
from migrator.service.control.control_steps import LongStep
from migrator.service.retention.selection import BUSY, JOBS_LIMIT
from migrator.storage.checkpoints import CheckpointStore
from migrator.storage.encryption.rotation import UNUSED_FOR, sweep_data_keys
from migrator.storage.prune.notes import PruneLock
from migrator.storage.prune.plan import Cutoff, PrunePlan
from migrator.storage.prune.pruner import Pruner

SKEW = timedelta(seconds=30)
"""By how much the clocks of control plane and object store may differ."""
TOLD = 50
QUIET = frozenset({JobKind.FORGET, JobKind.PRUNE, JobKind.VERIFICATION})
"""Jobs that upload nothing."""


class Prune(LongStep):
    """Free what no checkpoint needs, or say what would be freed."""

    name = "prune"

    def __init__(self, database: Database, checkpoints: CheckpointStore, now: Callable[[], datetime]):
        self._database = database
        self._checkpoints = checkpoints
        self._now = now

    def work(self, job: Job, pulse: Callable[[], None]) -> Facts:
        """Return what was planned, and the bytes freed.

        Raises:
            ResourceBusy: `prune_busy`, another one is under way.
        """
        asked = job.request.prune or PruneRequest()
        grace = timedelta(seconds=asked.grace_s)
        cutoff = find_cutoff(self._database, grace, self._now())
        pruner = Pruner(self._checkpoints, pulse)
        if asked.dry_run:
            data_keys = self._sweep_data_keys(cutoff, dry_run=True)
            return {"pruned": _told(pruner.plan(cutoff)) | {"data_keys": data_keys, "dry_run": True}}
        self._checkpoints.objects.probe()  # a store that lets nothing be written is known before anything is changed
        lock = PruneLock(self._checkpoints.objects, job.id, self._is_over)
        plan, freed_bytes = pruner.run(cutoff, lock)
        age_s = max((self._now() - cutoff.written).total_seconds(), 0.0)
        aborted = self._checkpoints.objects.abort_uploads("", age_s)
        done = {"freed_bytes": freed_bytes, "uploads": len(aborted), "data_keys": self._sweep_data_keys(cutoff)}
        return {"pruned": _told(plan) | done}

    def _sweep_data_keys(self, cutoff: Cutoff, *, dry_run: bool = False) -> int:
        return sweep_data_keys(self._checkpoints, min(cutoff.written, self._now() - UNUSED_FOR), dry_run=dry_run)

    def _is_over(self, job_id: str) -> bool:
        """Whether a job that holds the store has ended; of a job that this database does not know nothing is said."""
        try:
            with self._database.transaction(write=False) as tx:
                return tx.jobs.get(job_id).phase not in BUSY
        except NotFound:
            return False


def find_cutoff(database: Database, grace: timedelta, now: datetime) -> Cutoff:
    """Say how old objects and marks must be. A job under way may rely on what was there when it began."""
    with database.transaction(write=False) as tx:
        jobs = tx.jobs.list(phases=BUSY, limit=JOBS_LIMIT)
    began = [job.created_at - SKEW for job in jobs if job.request.kind not in QUIET]
    oldest = min([now - grace, *began])
    return Cutoff(written=oldest, marked=oldest)


def _told(plan: PrunePlan) -> Facts:
    return {
        "blobs": len(plan.blobs),
        "packs": len(plan.packs),
        "planned_bytes": plan.freed_bytes,
        "marked": len(plan.mark_blobs) + len(plan.mark_packs) + len(plan.repack),
        "marked_bytes": plan.marked_bytes + sum(plan.repack.values()),
        "unmarked": len(plan.unmark_blobs) + len(plan.unmark_packs),
        "repacked": len(plan.repack),
        "young": plan.kept_young,
        "unclear": plan.unclear,
        "damaged": plan.damaged[:TOLD],
        "hidden": len(plan.hidden),
        "hidden_bytes": sum(plan.hidden.values()),
        "left": plan.left,
        "left_bytes": plan.left_bytes,
        "merged": len(plan.merge),
        "data_keys": 0,
        "missing_chunks": plan.missing_chunks,
        "locked": plan.locked[:TOLD],
        "freed_bytes": 0,
        "uploads": 0,
        "dry_run": False,
    }
