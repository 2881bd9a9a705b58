"""Which checkpoints are backups, and what each added to the store."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("checkpoints") as table:
        table.add_column(sa.Column("backup", sa.Boolean(), nullable=False, server_default=sa.false()))
        table.add_column(sa.Column("stored_bytes", sa.BigInteger(), nullable=False, server_default="0"))


def downgrade() -> None:
    with op.batch_alter_table("checkpoints") as table:
        table.drop_column("stored_bytes")
        table.drop_column("backup")
