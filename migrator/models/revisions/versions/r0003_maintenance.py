"""Which hosts take no new containers, and what drains have moved off them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "cordons",
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("drain_id", sa.String(), nullable=True),
        sa.Column("return_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("host", name="pk_cordons"),
    )
    op.create_table(
        "displacements",
        sa.Column("home", sa.String(), nullable=False),
        sa.Column("workload_id", sa.String(), nullable=False),
        sa.Column("namespace", sa.String(), nullable=False),
        sa.Column("container", sa.String(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("drain_id", sa.String(), nullable=False),
        sa.Column("moved_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("home", "workload_id", name="pk_displacements"),
    )


def downgrade() -> None:
    op.drop_table("displacements")
    op.drop_table("cordons")
