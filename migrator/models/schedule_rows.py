"""Schedules and their runs as columns, and back."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any

from migrator.models.job_rows import read_request
from migrator.models.retention import RetentionPolicy
from migrator.models.schedule_values import (
    Act,
    Cause,
    Overlap,
    Pause,
    Run,
    RunState,
    Schedule,
    ScheduleSpec,
    Target,
    Trigger,
)
from migrator.models.tables import RunRow, ScheduleRow

_PLAIN = ("id", "name", "version", "created_at", "updated_at", "anchor", "cursor", "look_at", "failures")
_PLAIN_RUN = ("id", "schedule_id", "fire_time", "due_at", "reason", "until", "count", "started_at", "finished_at")


def schedule_columns(schedule: Schedule) -> dict[str, Any]:
    """Spell a schedule as values for the table `schedules`."""
    pause = schedule.pause
    return {
        **{name: getattr(schedule, name) for name in _PLAIN},
        "spec": _spec_to_json(schedule.spec),
        "job": asdict(schedule.spec.job),
        "pause": asdict(pause) | {"at": pause.at.isoformat()} if pause else None,
    }


def schedule_from_row(row: ScheduleRow) -> Schedule:
    """Read a schedule back."""
    pause = row.pause
    return Schedule(
        **{name: getattr(row, name) for name in _PLAIN},
        spec=_spec_from_row(row),
        pause=Pause(**(pause | {"at": datetime.fromisoformat(pause["at"])})) if pause else None,
    )


def run_columns(run: Run) -> dict[str, Any]:
    """Spell a run as values for the table `schedule_runs`."""
    return {
        **{name: getattr(run, name) for name in _PLAIN_RUN},
        "state": run.state.value,
        "cause": run.cause.value,
        "acts": [asdict(act) for act in run.acts],
    }


def run_from_row(row: RunRow) -> Run:
    """Read a run back."""
    return Run(
        **{name: getattr(row, name) for name in _PLAIN_RUN},
        state=RunState(row.state),
        cause=Cause(row.cause),
        acts=tuple(Act(**act) for act in row.acts),
    )


def _spec_to_json(spec: ScheduleSpec) -> dict[str, Any]:
    told = asdict(spec) | {"trigger": asdict(spec.trigger) | {"at": _text(spec.trigger.at)}}
    del told["job"]  # it has a column of its own
    return told | {
        "start": _text(spec.start),
        "end": _text(spec.end),
        "overlap": spec.overlap.value,
        "blackouts": list(spec.blackouts),
    }


def _spec_from_row(row: ScheduleRow) -> ScheduleSpec:
    told, trigger = row.spec, row.spec["trigger"]
    words = {
        "trigger": Trigger(**(trigger | {"at": _moment(trigger["at"])})),
        "job": read_request(row.job, f"schedule '{row.name}'"),
        "target": Target(**told["target"]),
        "start": _moment(told["start"]),
        "end": _moment(told["end"]),
        "overlap": Overlap(told["overlap"]),
        "blackouts": tuple(told["blackouts"]),
        "keep": RetentionPolicy(**told["keep"]) if told.get("keep") else None,
    }
    return ScheduleSpec(**(told | words))


def _text(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
