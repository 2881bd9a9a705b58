"""What the catalogue knows of pins, verifications and removals."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for column in (
        sa.Column("pinned_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("pin_reason", sa.String(), nullable=True),
        sa.Column("verified_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("damage", sa.String(), nullable=True),
        sa.Column("removing_at", sa.DateTime(timezone=True), nullable=True),
    ):
        op.add_column("checkpoints", column)


def downgrade() -> None:
    with op.batch_alter_table("checkpoints") as batch:
        for name in ("removing_at", "damage", "verified_at", "pin_reason", "pinned_at"):
            batch.drop_column(name)
