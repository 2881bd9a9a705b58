"""Pin a checkpoint: it stays, whatever a policy says, and even if the SQL database is lost.

The store's note is written before the row and removed before it: what the catalogue shows as pinned was noted once, and
what a failure leaves behind is seen, and cured by asking again.
"""

from __future__ import annotations

from datetime import datetime

from migrator.errors import InvalidRequest
from migrator.models.session import Database
from migrator.models.values import Checkpoint
from migrator.storage.checkpoints import CheckpointStore
from migrator.storage.pins import Pin, Pins

REASON_LIMIT = 200


def pin(database: Database, checkpoints: CheckpointStore, checkpoint_id: str, reason: str, now: datetime) -> Checkpoint:
    """Pin a checkpoint; again with another reason changes the reason.

    Raises:
        NotFound: `checkpoint_not_found`.
        InvalidRequest: `bad_reason`.
    """
    if len(reason) > REASON_LIMIT or not (reason.isprintable() or not reason):
        raise InvalidRequest(
            "this reason cannot be kept", code="bad_reason", remedy=f"use up to {REASON_LIMIT} printable signs"
        )
    with database.transaction() as tx:
        known = tx.checkpoints.hold(checkpoint_id)
        since = known.pinned_at or now
        Pins(checkpoints.objects).write(checkpoint_id, Pin(since, reason))
        tx.checkpoints.set_pin(checkpoint_id, since, reason)
        return tx.checkpoints.get(checkpoint_id)


def unpin(database: Database, checkpoints: CheckpointStore, checkpoint_id: str) -> Checkpoint:
    """Take a pin away; a checkpoint that has none is fine.

    Raises:
        NotFound: `checkpoint_not_found`.
    """
    with database.transaction() as tx:
        tx.checkpoints.hold(checkpoint_id)
        Pins(checkpoints.objects).remove(checkpoint_id)
        tx.checkpoints.set_pin(checkpoint_id, None)
        return tx.checkpoints.get(checkpoint_id)
