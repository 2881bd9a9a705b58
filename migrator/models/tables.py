"""The SQL tables, one mapped class each. Only the repositories and the schema revisions look at them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    ColumnElement,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    Index,
    MetaData,
    TypeDecorator,
    UniqueConstraint,
    false,
    literal_column,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from migrator.models.phase import TERMINAL, Phase

FINISHED = frozenset({Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELLED})
"""Phases in which a job has let go of its workload. A job that waits for an operator has not."""


class UtcDateTime(TypeDecorator[datetime]):
    """A moment with its time zone in Python, in UTC in every database: SQLite itself knows no zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse a moment without a zone; SQLite gets UTC without one, in text that sorts by time."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a moment without a time zone: {value}")
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give back UTC, whatever zone the database session has."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)


class Base(DeclarativeBase):
    """Every constraint has a name, so that a later revision can find it on SQLite too."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    # Plain JSON, not JSONB: JSONB turns 1e16 into an integer and refuses an escaped NUL.
    type_annotation_map = {  # noqa: RUF012
        datetime: UtcDateTime,
        dict[str, Any]: JSON(none_as_null=True),
        list[dict[str, Any]]: JSON(none_as_null=True),
    }


class JobRow(Base):
    """A job without its steps. `source_host` and `target_host` repeat the request, for the index."""

    __tablename__ = "jobs"

    id: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int]
    phase: Mapped[str]
    request: Mapped[dict[str, Any]]
    source_host: Mapped[str | None]
    target_host: Mapped[str | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    idempotency_key: Mapped[str | None]
    workload_id: Mapped[str | None]
    epoch: Mapped[int] = mapped_column(BigInteger)
    checkpoint_id: Mapped[str | None]
    cancel_requested: Mapped[bool]
    failure: Mapped[dict[str, Any] | None]
    resolutions: Mapped[list[dict[str, Any]]]
    alone_with: Mapped[str | None]
    """See `values.Job.alone_with`."""


class StepRow(Base):
    """One step of a job's plan."""

    __tablename__ = "steps"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    host: Mapped[str | None]
    phase: Mapped[str]
    status: Mapped[str]
    attempt: Mapped[int]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    dispatched_at: Mapped[datetime | None]
    duration_s: Mapped[float | None] = mapped_column(Double)
    progress_bytes: Mapped[int] = mapped_column(BigInteger)
    total_bytes: Mapped[int] = mapped_column(BigInteger)
    facts: Mapped[dict[str, Any]]
    failure: Mapped[dict[str, Any] | None]


class HostRow(Base):
    """A host as last heard of, and when its containers were last looked at."""

    __tablename__ = "hosts"

    name: Mapped[str] = mapped_column(primary_key=True)
    seen_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    facts: Mapped[dict[str, Any]]
    containers_seen_at: Mapped[datetime | None]


class HearingRow(Base):
    """Up to when everybody who spoke by a queue was heard; see `service.echo`."""

    __tablename__ = "hearing"

    queue: Mapped[str] = mapped_column(primary_key=True)
    heard_until: Mapped[datetime]


class ContainerRow(Base):
    """A container as its host saw it at `hosts.containers_seen_at`."""

    __tablename__ = "containers"

    host: Mapped[str] = mapped_column(ForeignKey("hosts.name", ondelete="CASCADE"), primary_key=True)
    namespace: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    status: Mapped[str]
    image: Mapped[str]
    pid: Mapped[int] = mapped_column(BigInteger)
    memory_bytes: Mapped[int] = mapped_column(BigInteger)
    labels: Mapped[dict[str, Any]]


class WorkloadRow(Base):
    """One container identity, its owner and its epoch. One name on one host is one workload."""

    __tablename__ = "workloads"
    __table_args__ = (UniqueConstraint("owner_host", "namespace", "container"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    namespace: Mapped[str]
    container: Mapped[str]
    owner_host: Mapped[str]
    epoch: Mapped[int] = mapped_column(BigInteger)


class CheckpointRow(Base):
    """The catalogue of sealed checkpoints. No foreign keys: a checkpoint outlives its workload and its job."""

    __tablename__ = "checkpoints"

    id: Mapped[str] = mapped_column(primary_key=True)
    workload_id: Mapped[str]
    job_id: Mapped[str | None]
    host: Mapped[str]
    namespace: Mapped[str]
    container: Mapped[str]
    image: Mapped[str]
    index_digest: Mapped[str]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime]
    drilled_at: Mapped[datetime | None]
    drill_failure: Mapped[str | None]
    proven_at: Mapped[datetime | None]
    restore_s: Mapped[float | None] = mapped_column(Double)
    backup: Mapped[bool] = mapped_column(default=False, server_default=false())
    stored_bytes: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    pinned_at: Mapped[datetime | None]
    pin_reason: Mapped[str | None]
    verified_at: Mapped[datetime | None]
    damage: Mapped[str | None]
    schedule: Mapped[str | None]
    removing_at: Mapped[datetime | None]
    """Since when its index is being deleted: for everybody else it is gone already."""


class ExaminationRow(Base):
    """What a host answered when somebody asked how it is; fetched once, then of no more use."""

    __tablename__ = "examinations"

    token: Mapped[str] = mapped_column(primary_key=True)
    host: Mapped[str]
    recorded_at: Mapped[datetime]
    report: Mapped[dict[str, Any]]


class ScheduleRow(Base):
    """What is wanted again and again, and how far it has come. `job` is a request without its target."""

    __tablename__ = "schedules"
    __table_args__ = (UniqueConstraint("name"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    version: Mapped[int]
    spec: Mapped[dict[str, Any]]
    job: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    anchor: Mapped[datetime]
    cursor: Mapped[datetime]
    look_at: Mapped[datetime | None] = mapped_column(index=True)
    pause: Mapped[dict[str, Any] | None]
    failures: Mapped[int]


class RunRow(Base):
    """One fire time of a schedule and what became of it."""

    __tablename__ = "schedule_runs"

    id: Mapped[str] = mapped_column(primary_key=True)
    schedule_id: Mapped[str] = mapped_column(ForeignKey("schedules.id", ondelete="CASCADE"))
    fire_time: Mapped[datetime]
    due_at: Mapped[datetime]
    state: Mapped[str]
    cause: Mapped[str]
    reason: Mapped[str]
    until: Mapped[datetime | None]
    count: Mapped[int]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    acts: Mapped[list[dict[str, Any]]]


class CordonRow(Base):
    """A host that takes no new containers. No foreign key: who removes a host lifts its cordon, too."""

    __tablename__ = "cordons"

    host: Mapped[str] = mapped_column(primary_key=True)
    since: Mapped[datetime]
    actor: Mapped[str]
    reason: Mapped[str]
    drain_id: Mapped[str | None]
    return_at: Mapped[datetime | None]


class DisplacementRow(Base):
    """A workload that a drain has moved off its host."""

    __tablename__ = "displacements"

    home: Mapped[str] = mapped_column(primary_key=True)
    workload_id: Mapped[str] = mapped_column(primary_key=True)
    namespace: Mapped[str]
    container: Mapped[str]
    host: Mapped[str]
    drain_id: Mapped[str]
    moved_at: Mapped[datetime]


def phase_not_in(phases: frozenset[Phase]) -> ColumnElement[bool]:
    """Say "the job's phase is none of these" with the phases spelled out.

    A partial index serves a query only if both spell the condition alike, and a bound parameter is not spelled out.
    """
    return JobRow.phase.not_in([literal_column(f"'{phase}'") for phase in sorted(phases)])


HOLDS_WORKLOAD = phase_not_in(FINISHED)
UNFINISHED = phase_not_in(TERMINAL)

RUN_NOT_SKIPPED = RunRow.state != literal_column("'skipped'")
RUN_OPEN = RunRow.state.in_([literal_column("'running'"), literal_column("'waiting'")])

Index("uq_jobs_idempotency_key", JobRow.idempotency_key, unique=True)
Index(
    "uq_jobs_workload_held",
    JobRow.workload_id,
    unique=True,
    sqlite_where=HOLDS_WORKLOAD,
    postgresql_where=HOLDS_WORKLOAD,
)
Index(
    "uq_jobs_alone",
    JobRow.alone_with,
    unique=True,
    sqlite_where=UNFINISHED,
    postgresql_where=UNFINISHED,
)
Index("ix_jobs_unfinished", JobRow.created_at, sqlite_where=UNFINISHED, postgresql_where=UNFINISHED)
Index("ix_jobs_created_at", JobRow.created_at)
Index("ix_jobs_source_host", JobRow.source_host, JobRow.created_at)
Index("ix_jobs_target_host", JobRow.target_host, JobRow.created_at)
Index("ix_checkpoints_created_at", CheckpointRow.created_at)
# Each fire time runs once: whatever else goes wrong, the database refuses the second row.
Index(
    "uq_schedule_runs_fire_time",
    RunRow.schedule_id,
    RunRow.fire_time,
    unique=True,
    sqlite_where=RUN_NOT_SKIPPED,
    postgresql_where=RUN_NOT_SKIPPED,
)
Index("ix_schedule_runs_open", RunRow.schedule_id, sqlite_where=RUN_OPEN, postgresql_where=RUN_OPEN)
Index("ix_schedule_runs_history", RunRow.schedule_id, RunRow.fire_time)
