"""Schedules and runs as the API's messages, and back."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from zoneinfo import ZoneInfo

from google.protobuf import json_format

from migrator.api.messages import failure_message, request_from
from migrator.api.moments import stamp
from migrator.api.retention_messages import forget_from_message
from migrator.errors import InvalidRequest
from migrator.gen.migrator.v1 import migrator_pb2 as pb
from migrator.gen.migrator.v1 import retention_pb2
from migrator.gen.migrator.v1 import schedules_pb2 as spb
from migrator.models.retention import RetentionPolicy
from migrator.models.schedule_values import (
    Act,
    Cause,
    Overlap,
    Run,
    RunState,
    Schedule,
    ScheduleSpec,
    Target,
    Trigger,
)
from migrator.models.values import JobRequest
from migrator.service.schedules.desk import Preview
from migrator.service.schedules.kinds import KINDS
from migrator.service.schedules.moments import read_moment
from migrator.service.schedules.zones import find_zone

OVERLAPS = {policy: spb.OverlapPolicy.Value(f"OVERLAP_POLICY_{policy.name}") for policy in Overlap}
STATES = {state: spb.RunState.Value(f"RUN_STATE_{state.name}") for state in RunState}
CAUSES = {cause: spb.RunCause.Value(f"RUN_CAUSE_{cause.name}") for cause in Cause}
CATCHUP_S = 3600


def spec_from(message: spb.ScheduleSpec) -> ScheduleSpec:
    """Read what somebody wants to happen again and again.

    Raises:
        InvalidRequest: Something cannot be read.
    """
    zone = find_zone(message.time_zone or "UTC")
    job = request_from(message.job)
    if job is None:
        raise InvalidRequest(
            "a schedule needs a kind of job", code="incomplete_request", remedy=f"say one of {', '.join(sorted(KINDS))}"
        )
    return ScheduleSpec(
        trigger=Trigger(message.cron or None, message.every_s or None, _moment(message.at, zone)),
        job=_without_target(message.job),
        target=_target_from(message, job),
        time_zone=zone.key,
        start=_moment(message.start, zone),
        end=_moment(message.end, zone),
        overlap=overlap_from(message.overlap) or Overlap.SKIP,
        catchup_s=message.catchup_s if message.HasField("catchup_s") else CATCHUP_S,
        jitter_s=message.jitter_s,
        blackouts=tuple(message.blackouts),
        pause_after=message.pause_after_failures,
        allow_empty=message.allow_empty,
        keep=_policy_from(message),
        asked=json_format.MessageToJson(message.job, indent=None),
    )


def overlap_from(number: int) -> Overlap | None:
    """Read a policy; None if nothing is said.

    Raises:
        InvalidRequest: `bad_overlap`.
    """
    policy = next((policy for policy, known in OVERLAPS.items() if known == number), None)
    if policy is None and number:
        raise InvalidRequest(
            f"{number} is no policy for overlaps", code="bad_overlap", remedy=f"one of {', '.join(Overlap)}"
        )
    return policy


def schedule_message(schedule: Schedule, last_run: Run | None, host: str | None) -> spb.Schedule:
    """Write a schedule.

    Args:
        schedule: It.
        last_run: The newest run that was not skipped.
        host: Where its container is now.
    """
    pause = schedule.pause
    return spb.Schedule(
        id=schedule.id,
        name=schedule.name,
        spec=_spec_message(schedule.spec),
        host=host or "",
        created_at=stamp(schedule.created_at),
        updated_at=stamp(schedule.updated_at),
        next_at=stamp(schedule.look_at if pause is None else None),
        pause=spb.Pause(at=stamp(pause.at), actor=pause.actor, reason=pause.reason) if pause else None,
        failures=schedule.failures,
        last_run=run_message(last_run) if last_run else None,
    )


def run_message(run: Run) -> spb.Run:
    """Write a run."""
    return spb.Run(
        id=run.id,
        fire_time=stamp(run.fire_time),
        due_at=stamp(run.due_at),
        state=STATES[run.state],
        cause=CAUSES[run.cause],
        reason=run.reason,
        count=run.count,
        until=stamp(run.until),
        started_at=stamp(run.started_at),
        finished_at=stamp(run.finished_at),
        acts=[_act_message(act) for act in run.acts],
    )


def preview_message(preview: Preview, zone: str) -> spb.PlannedRun:
    """Write a fire time to come."""
    local = preview.fire.time.astimezone(ZoneInfo(zone))
    return spb.PlannedRun(
        fire_time=stamp(preview.fire.time),
        due_at=stamp(preview.fire.due),
        local=local.isoformat(timespec="seconds"),
        blackout=preview.blackout or "",
    )


def _target_from(message: spb.ScheduleSpec, job: JobRequest) -> Target:
    host, slash, container = message.job.workload.partition("/")
    if slash:
        return Target(host, container, selector=message.selector.strip())
    return Target(job.source_host, job.container, message.job.workload or None, message.selector.strip())


def _without_target(message: pb.CreateJobRequest) -> JobRequest:
    bare = pb.CreateJobRequest()
    bare.CopyFrom(message)
    for name in ("source", "container", "idempotency_key"):
        bare.ClearField(name)
    found = request_from(bare)
    assert found is not None  # the caller has seen that it has a kind
    return found


def _spec_message(spec: ScheduleSpec) -> spb.ScheduleSpec:
    zone, trigger = ZoneInfo(spec.time_zone), spec.trigger
    return spb.ScheduleSpec(
        cron=trigger.cron or "",
        every_s=trigger.every_s or 0,
        at=_text(trigger.at, zone),
        time_zone=spec.time_zone,
        start=_text(spec.start, zone),
        end=_text(spec.end, zone),
        overlap=OVERLAPS[spec.overlap],
        catchup_s=spec.catchup_s,
        jitter_s=spec.jitter_s,
        blackouts=spec.blackouts,
        pause_after_failures=spec.pause_after,
        job=json_format.Parse(spec.asked, pb.CreateJobRequest(), ignore_unknown_fields=True),
        selector=spec.target.selector,
        allow_empty=spec.allow_empty,
        keep=retention_pb2.RetentionPolicy(**asdict(spec.keep)) if spec.keep else None,
    )


def _policy_from(message: spb.ScheduleSpec) -> RetentionPolicy | None:
    if not message.HasField("keep"):
        return None
    return forget_from_message(retention_pb2.ForgetRequest(policy=message.keep)).policy


def _act_message(act: Act) -> spb.RunAct:
    return spb.RunAct(
        host=act.host or "",
        namespace=act.namespace,
        container=act.container or "",
        job_id=act.job_id or "",
        note=act.note,
        failure=failure_message(act.failure),
    )


def _moment(text: str, zone: ZoneInfo) -> datetime | None:
    return read_moment(text, zone) if text else None


def _text(moment: datetime | None, zone: ZoneInfo) -> str:
    return moment.astimezone(zone).isoformat() if moment else ""
