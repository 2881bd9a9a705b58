"""One drain of a host at a time, whoever accepts it; schedules select containers as drains do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

UNFINISHED = sa.text("(phase NOT IN ('cancelled', 'failed', 'needs_operator', 'succeeded'))")
JOBS = sa.table(
    "jobs", sa.column("id"), sa.column("request", sa.JSON()), sa.column("alone_with"), sa.column("created_at")
)
SCHEDULES = sa.table("schedules", sa.column("id"), sa.column("spec", sa.JSON()))


def upgrade() -> None:
    op.add_column("jobs", sa.Column("alone_with", sa.String(), nullable=True))
    _note_drains()
    op.create_index(
        "uq_jobs_alone",
        "jobs",
        ["alone_with"],
        unique=True,
        sqlite_where=UNFINISHED,
        postgresql_where=UNFINISHED,
    )
    _rewrite_targets(
        "labels", {}, "selector", lambda labels: ",".join(f"{key}={labels[key]}" for key in sorted(labels))
    )


def downgrade() -> None:
    op.drop_index("uq_jobs_alone", "jobs")
    op.drop_column("jobs", "alone_with")
    _rewrite_targets("selector", "", "labels", _read_labels)


def _note_drains() -> None:
    """The drains that are under way hold their hosts, the oldest of each."""
    connection = op.get_bind()
    held: set[str] = set()
    for job in connection.execute(sa.select(JOBS).where(UNFINISHED).order_by(JOBS.c.created_at)).all():
        host = {"drain": job.request.get("source_host"), "return": job.request.get("target_host")}.get(
            job.request["kind"]
        )
        dry = (job.request.get("drain") or {}).get("dry_run")
        if host is not None and not dry and host not in held:
            held.add(host)
            connection.execute(sa.update(JOBS).where(JOBS.c.id == job.id).values(alone_with=f"host {host}"))


def _rewrite_targets(before: str, empty: Any, after: str, write: Callable[[Any], Any]) -> None:
    connection = op.get_bind()
    for schedule in connection.execute(sa.select(SCHEDULES)).all():
        target = dict(schedule.spec["target"])
        target[after] = write(target.pop(before, empty))
        spec = schedule.spec | {"target": target}
        connection.execute(sa.update(SCHEDULES).where(SCHEDULES.c.id == schedule.id).values(spec=spec))


def _read_labels(selector: str) -> dict[str, str]:
    """What an older version can say of a selector: equalities."""
    terms = [term.partition("=") for term in selector.split(",")]
    return {name.strip(): value.lstrip("=").strip() for name, equals, value in terms if equals and name[-1:] != "!"}
