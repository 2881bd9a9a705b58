"""Take a checkpoint out of the catalogue and the store, so that a crash at any line leaves no half of it.

    1. SQL: it is being removed; from here on nobody lists or restores it
    2. store: its index goes, then its pin
    3. SQL: its row goes

After a crash between these `finish_all` goes on. Its blobs are left to a prune. If the store refuses, it is as before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from migrator.errors import PermanentError, PreconditionFailed, ResourceBusy
from migrator.models.session import Database, Transaction
from migrator.models.values import Checkpoint, JobRequest
from migrator.service.retention.selection import jobs_by_checkpoint, select
from migrator.storage.checkpoints import CheckpointStore
from migrator.storage.pins import Pins


class Remover:
    """Removes checkpoints.

    Args:
        database: Where the catalogue lives.
        checkpoints: The store.
        now: The clock.
    """

    def __init__(self, database: Database, checkpoints: CheckpointStore, now: Callable[[], datetime]):
        self._database = database
        self._checkpoints = checkpoints
        self._pins = Pins(checkpoints.objects)
        self._now = now

    def remove(self, checkpoint_id: str) -> Checkpoint:
        """Remove a checkpoint.

        Raises:
            NotFound: `checkpoint_not_found`.
            ResourceBusy: `checkpoint_in_use`, a job works with it.
            PreconditionFailed: `checkpoint_pinned`; or `object_locked`, the store must keep it.
        """
        with self._database.transaction() as tx:
            checkpoint = tx.checkpoints.hold(checkpoint_id)
            check_removable(checkpoint, jobs_by_checkpoint(tx))
            tx.checkpoints.set_removing(checkpoint_id, self._now())
        self._finish(checkpoint)
        return checkpoint

    def finish_all(self) -> list[str]:
        """Go on with removals that were interrupted."""
        with self._database.transaction(write=False) as tx:
            begun = tx.checkpoints.removing()
        for checkpoint in begun:
            self._finish(checkpoint)
        return [checkpoint.id for checkpoint in begun]

    def _finish(self, checkpoint: Checkpoint) -> None:
        try:
            self._checkpoints.unseal(checkpoint.workload_id, checkpoint.id)
            self._pins.remove(checkpoint.id)
        except PermanentError:
            with self._database.transaction() as tx:
                tx.checkpoints.set_removing(checkpoint.id, None)
            raise
        with self._database.transaction() as tx:
            tx.checkpoints.remove(checkpoint.id)


def check_selection(tx: Transaction, request: JobRequest) -> None:
    """Refuse at once what a job that forgets would refuse later: it selects nothing, or what must stay.

    Raises:
        NotFound: `nothing_selected` or `checkpoint_not_found`.
        ResourceBusy, PreconditionFailed: See `check_removable`.
    """
    if request.forget is None:
        return
    selected = select(tx, request)
    if request.forget.checkpoint_ids:
        in_use = jobs_by_checkpoint(tx)
        for checkpoint in selected:
            check_removable(checkpoint, in_use)


def check_removable(checkpoint: Checkpoint, in_use: Mapping[str, str]) -> None:
    """Refuse to remove what is needed.

    Raises:
        ResourceBusy: `checkpoint_in_use`, a job works with it.
        PreconditionFailed: `checkpoint_pinned`.
    """
    if checkpoint.id in in_use:
        raise ResourceBusy(
            f"checkpoint '{checkpoint.id}' is in use by job {in_use[checkpoint.id]}",
            code="checkpoint_in_use",
            remedy=f"wait for its end: migrator jobs watch {in_use[checkpoint.id]}",
        )
    if checkpoint.pinned_at is not None:
        reason = f" ({checkpoint.pin_reason})" if checkpoint.pin_reason else ""
        raise PreconditionFailed(
            f"checkpoint '{checkpoint.id}' is pinned{reason}",
            code="checkpoint_pinned",
            remedy=f"migrator checkpoints unpin {checkpoint.id}",
        )
