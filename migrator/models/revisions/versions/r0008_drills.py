"""What restore drills have shown of checkpoints."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

COLUMNS: tuple[tuple[str, Any], ...] = (
    ("drilled_at", sa.DateTime(timezone=True)),
    ("drill_failure", sa.String()),
    ("proven_at", sa.DateTime(timezone=True)),
    ("restore_s", sa.Double()),
)


def upgrade() -> None:
    with op.batch_alter_table("checkpoints") as table:
        for name, kind in COLUMNS:
            table.add_column(sa.Column(name, kind, nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("checkpoints") as table:
        for name, _ in COLUMNS:
            table.drop_column(name)
