"""The catalogue of sealed checkpoints."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, delete, select, update
from sqlalchemy.orm import Session

from migrator.errors import AlreadyExists, NotFound
from migrator.models.tables import CheckpointRow
from migrator.models.values import Checkpoint
from migrator.models.writes import insert_unless_taken, write

Checkpoints = list[Checkpoint]


class CheckpointRepository:
    """The checkpoints of one transaction. One that is being removed is gone for all but `removing`."""

    def __init__(self, session: Session):
        self._session = session

    def add(self, checkpoint: Checkpoint) -> None:
        """Note a checkpoint that was sealed.

        Raises:
            AlreadyExists: `checkpoint_exists`, the id is taken.
        """
        if not insert_unless_taken(self._session, CheckpointRow, asdict(checkpoint)):
            raise checkpoint_exists(checkpoint)

    def get(self, checkpoint_id: str) -> Checkpoint:
        """Return a checkpoint.

        Raises:
            NotFound: `checkpoint_not_found`.
        """
        return self._get(checkpoint_id, lock=False)

    def hold(self, checkpoint_id: str) -> Checkpoint:
        """Return a checkpoint and let nobody else hold or change it until the end of the transaction.

        Raises:
            NotFound: `checkpoint_not_found`.
        """
        return self._get(checkpoint_id, lock=True)

    def list(self) -> Checkpoints:
        """List all, newest first."""
        return self._many(CheckpointRow.removing_at.is_(None))

    def removing(self) -> Checkpoints:
        """List those whose removal has begun."""
        return self._many(CheckpointRow.removing_at.is_not(None))

    def set_removing(self, checkpoint_id: str, removing_at: datetime | None) -> None:
        """Note that a removal begins, or that it was given up."""
        self._change(checkpoint_id, removing_at=removing_at)

    def set_pin(self, checkpoint_id: str, pinned_at: datetime | None, reason: str = "") -> None:
        """Note that a checkpoint stays whatever a policy says, or no longer does."""
        self._change(checkpoint_id, pinned_at=pinned_at, pin_reason=reason)

    def set_verified(self, checkpoint_id: str, verified_at: datetime, damage: str) -> None:
        """Note what a verification found; no damage is the empty text."""
        self._change(checkpoint_id, verified_at=verified_at, damage=damage)

    def record_drill(
        self, checkpoint_id: str, at: datetime, *, restore_s: float | None = None, failure: str | None = None
    ) -> None:
        """Note the verdict of a restore drill; a checkpoint that is gone by now needs none.

        Args:
            checkpoint_id: What was restored.
            at: When the verdict came.
            restore_s: What the restore took, if it went well.
            failure: Why it did not.
        """
        values: dict[str, Any] = {"drilled_at": at, "drill_failure": failure}
        if failure is None:
            values |= {"proven_at": at, "restore_s": restore_s}
        write(self._session, update(CheckpointRow).where(CheckpointRow.id == checkpoint_id).values(**values))

    def remove(self, checkpoint_id: str) -> None:
        """Forget a checkpoint; one that is not there is fine."""
        write(self._session, delete(CheckpointRow).where(CheckpointRow.id == checkpoint_id))

    def _get(self, checkpoint_id: str, *, lock: bool) -> Checkpoint:
        query = select(CheckpointRow).where(CheckpointRow.id == checkpoint_id, CheckpointRow.removing_at.is_(None))
        if lock:  # SQLite has one writer at a time
            query = query.with_for_update()
        row = self._session.scalars(query.execution_options(populate_existing=True)).one_or_none()
        if row is None:
            raise unknown_checkpoint(checkpoint_id)
        return _checkpoint(row)

    def _many(self, condition: ColumnElement[bool]) -> Checkpoints:
        query = select(CheckpointRow).where(condition)
        query = query.order_by(CheckpointRow.created_at.desc(), CheckpointRow.id.desc())
        rows = self._session.scalars(query.execution_options(populate_existing=True))
        return [_checkpoint(row) for row in rows]

    def _change(self, checkpoint_id: str, **values: Any) -> None:
        write(self._session, update(CheckpointRow).where(CheckpointRow.id == checkpoint_id).values(**values))


def checkpoint_exists(checkpoint: Checkpoint) -> AlreadyExists:
    """Say that a checkpoint's id is taken."""
    return AlreadyExists(f"checkpoint '{checkpoint.id}' exists already", code="checkpoint_exists")


def unknown_checkpoint(checkpoint_id: str) -> NotFound:
    """Say that there is no such checkpoint."""
    return NotFound(
        f"checkpoint '{checkpoint_id}' does not exist",
        code="checkpoint_not_found",
        remedy="see `migrator checkpoints list`",
    )


def _checkpoint(row: CheckpointRow) -> Checkpoint:
    return Checkpoint(
        id=row.id,
        workload_id=row.workload_id,
        job_id=row.job_id,
        host=row.host,
        namespace=row.namespace,
        container=row.container,
        image=row.image,
        index_digest=row.index_digest,
        size_bytes=row.size_bytes,
        created_at=row.created_at,
        drilled_at=row.drilled_at,
        drill_failure=row.drill_failure,
        proven_at=row.proven_at,
        restore_s=row.restore_s,
        backup=row.backup,
        stored_bytes=row.stored_bytes,
        pinned_at=row.pinned_at,
        pin_reason=row.pin_reason or "",
        verified_at=row.verified_at,
        damage=row.damage or "",
        schedule=row.schedule,
    )
