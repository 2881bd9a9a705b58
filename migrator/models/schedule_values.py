"""What a schedule is made of: when it fires, what it fires at, and what became of each time."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from migrator.models.retention import RetentionPolicy
from migrator.models.values import Facts, JobRequest


class Overlap(StrEnum):
    """What happens when a schedule fires while its last run still goes on."""

    SKIP = "skip"
    """The new one is left out."""
    BUFFER = "buffer"
    """The new one waits for the end of the last; while one waits, further ones are left out."""
    ALLOW = "allow"
    """Both run."""
    CANCEL = "cancel"
    """The last one is asked to stop, and the new one begins when it has."""


class Cause(StrEnum):
    """Why a run came to be."""

    SCHEDULE = "schedule"
    TRIGGER = "trigger"
    """Somebody asked for it now."""
    BACKFILL = "backfill"
    """Somebody asked for what was not run in the past."""


class RunState(StrEnum):
    """How a run stands."""

    WAITING = "waiting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    PARTIAL = "partial"
    """Some of its jobs went well and some did not."""
    FAILED = "failed"
    SKIPPED = "skipped"


OPEN_RUNS = frozenset({RunState.WAITING, RunState.RUNNING})


@dataclass(frozen=True, slots=True)
class Trigger:
    """When a schedule fires: exactly one of the three."""

    cron: str | None = None
    """Five fields, or a name such as @daily."""
    every_s: int | None = None
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """What a schedule fires at; with nothing set, the object store as a whole.

    `host` and `container` name one container, `workload_id` is how it is found again when it has moved, and names one
    by itself. `selector` means containers by their labels, `host` alone all on that host; both narrow each other.
    """

    host: str | None = None
    container: str | None = None
    workload_id: str | None = None
    selector: str = ""
    """See `service.selectors`."""


@dataclass(frozen=True, slots=True)
class ScheduleSpec:
    """What somebody wants to happen again and again."""

    trigger: Trigger
    job: JobRequest
    """What each firing asks for; what the target decides (source, container) is left out."""
    target: Target = field(default_factory=Target)
    time_zone: str = "UTC"
    start: datetime | None = None
    """No fire time before it; an interval is counted from it."""
    end: datetime | None = None
    """No fire time after it."""
    overlap: Overlap = Overlap.SKIP
    catchup_s: int = 3600
    """A fire time that was missed is still run when no more than this has passed."""
    jitter_s: int = 0
    blackouts: tuple[str, ...] = ()
    """When nothing may begin, such as `Mon-Fri 08:00-18:00`."""
    pause_after: int = 0
    """Pause after so many runs in a row that did not succeed; 0 never does."""
    allow_empty: bool = False
    """What it is about need not be there, now or later."""
    keep: RetentionPolicy | None = None
    """After each backup, what is kept of the container's; the rest is forgotten."""
    asked: str = ""
    """The job as somebody asked for it, for giving it back; only who wrote it reads it."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Why a schedule does not fire."""

    at: datetime
    actor: str
    reason: str


@dataclass(frozen=True, slots=True)
class Schedule:
    """A row: what is wanted, and how far it has come."""

    id: str
    name: str
    version: int
    """Raised by every write to the schedule or its runs; the compare-and-set token."""
    spec: ScheduleSpec
    created_at: datetime
    updated_at: datetime
    anchor: datetime
    """What an interval without a start is counted from."""
    cursor: datetime
    """Every fire time up to here is settled."""
    look_at: datetime | None
    """When the controller must look at it next; None if it will never fire again."""
    pause: Pause | None = None
    failures: int = 0
    """Runs in a row that did not succeed."""


@dataclass(frozen=True, slots=True)
class Act:
    """What one run did about one container (or about the store)."""

    host: str | None
    namespace: str
    container: str | None
    job_id: str | None = None
    note: str = ""
    """Why there is no job, and nothing is wrong."""
    failure: Facts | None = None
    """Why there is no job, or how the job failed."""


@dataclass(frozen=True, slots=True)
class Run:
    """One fire time and what became of it; a skipped one may stand for several."""

    id: str
    schedule_id: str
    fire_time: datetime
    due_at: datetime
    """The fire time and its jitter."""
    state: RunState
    cause: Cause = Cause.SCHEDULE
    reason: str = ""
    """Why it was skipped, or waits."""
    until: datetime | None = None
    """The last fire time that it stands for, if it stands for several."""
    count: int = 1
    started_at: datetime | None = None
    finished_at: datetime | None = None
    acts: tuple[Act, ...] = ()

    @property
    def jobs(self) -> tuple[str, ...]:
        """The ids of its jobs."""
        return tuple(act.job_id for act in self.acts if act.job_id)

    def skip(self, reason: str, now: datetime) -> Run:
        """The run, left out after all."""
        return replace(self, state=RunState.SKIPPED, reason=reason, finished_at=now)
