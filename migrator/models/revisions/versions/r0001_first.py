"""Jobs, steps, hosts, containers, workloads and checkpoints."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    _make_jobs()
    _make_steps()
    _make_hosts()
    _make_workloads()
    _make_checkpoints()


def downgrade() -> None:
    for table in ("checkpoints", "workloads", "containers", "hosts", "steps", "jobs"):
        op.drop_table(table)


def _moment(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _words(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(), nullable=nullable)


def _big(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=False)


def _json(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.JSON(none_as_null=True), nullable=nullable)


def _make_jobs() -> None:
    op.create_table(
        "jobs",
        _words("id"),
        sa.Column("version", sa.Integer(), nullable=False),
        _words("phase"),
        _json("request"),
        _words("source_host", nullable=True),
        _words("target_host", nullable=True),
        _moment("created_at"),
        _moment("updated_at"),
        _moment("finished_at", nullable=True),
        _words("idempotency_key", nullable=True),
        _words("workload_id", nullable=True),
        _big("epoch"),
        _words("checkpoint_id", nullable=True),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        _json("failure", nullable=True),
        _json("resolutions"),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
    )
    held = sa.text("(phase NOT IN ('cancelled', 'failed', 'succeeded'))")
    unfinished = sa.text("(phase NOT IN ('cancelled', 'failed', 'needs_operator', 'succeeded'))")
    op.create_index("uq_jobs_idempotency_key", "jobs", ["idempotency_key"], unique=True)
    op.create_index(
        "uq_jobs_workload_held", "jobs", ["workload_id"], unique=True, sqlite_where=held, postgresql_where=held
    )
    op.create_index("ix_jobs_unfinished", "jobs", ["created_at"], sqlite_where=unfinished, postgresql_where=unfinished)
    op.create_index("ix_jobs_created_at", "jobs", ["created_at"])
    op.create_index("ix_jobs_source_host", "jobs", ["source_host", "created_at"])
    op.create_index("ix_jobs_target_host", "jobs", ["target_host", "created_at"])


def _make_steps() -> None:
    op.create_table(
        "steps",
        _words("job_id"),
        sa.Column("position", sa.Integer(), nullable=False),
        _words("name"),
        _words("host", nullable=True),
        _words("phase"),
        _words("status"),
        sa.Column("attempt", sa.Integer(), nullable=False),
        _moment("started_at", nullable=True),
        _moment("finished_at", nullable=True),
        _moment("dispatched_at", nullable=True),
        sa.Column("duration_s", sa.Double(), nullable=True),
        _big("progress_bytes"),
        _big("total_bytes"),
        _json("facts"),
        _json("failure", nullable=True),
        sa.PrimaryKeyConstraint("job_id", "position", name="pk_steps"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_steps_job_id", ondelete="CASCADE"),
    )


def _make_hosts() -> None:
    op.create_table(
        "hosts",
        _words("name"),
        _moment("seen_at"),
        _moment("started_at", nullable=True),
        _json("facts"),
        _moment("containers_seen_at", nullable=True),
        sa.PrimaryKeyConstraint("name", name="pk_hosts"),
    )
    op.create_table(
        "containers",
        _words("host"),
        _words("namespace"),
        _words("name"),
        _words("status"),
        _words("image"),
        _big("pid"),
        _big("memory_bytes"),
        _json("labels"),
        sa.PrimaryKeyConstraint("host", "namespace", "name", name="pk_containers"),
        sa.ForeignKeyConstraint(["host"], ["hosts.name"], name="fk_containers_host", ondelete="CASCADE"),
    )


def _make_workloads() -> None:
    op.create_table(
        "workloads",
        _words("id"),
        _words("namespace"),
        _words("container"),
        _words("owner_host"),
        _big("epoch"),
        sa.PrimaryKeyConstraint("id", name="pk_workloads"),
        sa.UniqueConstraint("owner_host", "namespace", "container", name="uq_workloads_owner_host_namespace_container"),
    )


def _make_checkpoints() -> None:
    op.create_table(
        "checkpoints",
        _words("id"),
        _words("workload_id"),
        _words("job_id", nullable=True),
        _words("host"),
        _words("namespace"),
        _words("container"),
        _words("image"),
        _words("index_digest"),
        _big("size_bytes"),
        _moment("created_at"),
        sa.PrimaryKeyConstraint("id", name="pk_checkpoints"),
    )
    op.create_index("ix_checkpoints_created_at", "checkpoints", ["created_at"])
