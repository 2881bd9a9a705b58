"""Schedules and runs as plain JSON types, with the names that people use."""

from __future__ import annotations

from typing import Any

from migrator.cli.plain import failure_data, moment
from migrator.gen.migrator.v1 import migrator_pb2 as pb
from migrator.gen.migrator.v1 import retention_pb2 as retention
from migrator.gen.migrator.v1 import schedules_pb2 as spb


def schedule_data(schedule: spb.Schedule) -> dict[str, Any]:
    """A schedule."""
    spec, job = schedule.spec, schedule.spec.job
    return {
        "id": schedule.id,
        "name": schedule.name,
        "kind": pb.JobKind.Name(job.kind).removeprefix("JOB_KIND_").lower(),
        "cron": spec.cron or None,
        "every_s": spec.every_s or None,
        "at": spec.at or None,
        "time_zone": spec.time_zone,
        "start": spec.start or None,
        "end": spec.end or None,
        "host": schedule.host or job.source or None,
        "container": job.container or None,
        "workload": job.workload or None,
        "selector": spec.selector or None,
        "overlap": spb.OverlapPolicy.Name(spec.overlap).removeprefix("OVERLAP_POLICY_").lower(),
        "catchup_s": spec.catchup_s,
        "jitter_s": spec.jitter_s,
        "blackouts": list(spec.blackouts),
        "pause_after": spec.pause_after_failures,
        "allow_empty": spec.allow_empty,
        "keep": _keep_data(spec.keep) if spec.HasField("keep") else None,
        "target": job.target or None,
        "job": _job_words(job),
        "next_at": moment(schedule, "next_at"),
        "paused": _pause_data(schedule.pause) if schedule.HasField("pause") else None,
        "failures": schedule.failures,
        "created_at": moment(schedule, "created_at"),
        "updated_at": moment(schedule, "updated_at"),
        "last_run": run_data(schedule.last_run) if schedule.HasField("last_run") else None,
    }


def run_data(run: spb.Run) -> dict[str, Any]:
    """A run."""
    return {
        "id": run.id,
        "fire_time": moment(run, "fire_time"),
        "due_at": moment(run, "due_at"),
        "state": spb.RunState.Name(run.state).removeprefix("RUN_STATE_").lower(),
        "cause": spb.RunCause.Name(run.cause).removeprefix("RUN_CAUSE_").lower(),
        "reason": run.reason or None,
        "count": run.count,
        "until": moment(run, "until"),
        "started_at": moment(run, "started_at"),
        "finished_at": moment(run, "finished_at"),
        "acts": [_act_data(act) for act in run.acts],
    }


def planned_data(run: spb.PlannedRun) -> dict[str, Any]:
    """A fire time to come."""
    return {
        "fire_time": moment(run, "fire_time"),
        "due_at": moment(run, "due_at"),
        "local": run.local,
        "blackout": run.blackout or None,
    }


TARGET = ("kind", "source", "container", "target", "workload")


def _job_words(job: pb.CreateJobRequest) -> dict[str, Any]:
    """The job's own options, as far as they are set."""
    from google.protobuf.json_format import MessageToDict

    told: dict[str, Any] = MessageToDict(job, preserving_proto_field_name=True)
    return {name: value for name, value in told.items() if name not in TARGET}


def _keep_data(keep: retention.RetentionPolicy) -> dict[str, Any]:
    return {field.name: value for field, value in keep.ListFields()}


def _pause_data(pause: spb.Pause) -> dict[str, Any]:
    return {"at": moment(pause, "at"), "actor": pause.actor or None, "reason": pause.reason or None}


def _act_data(act: spb.RunAct) -> dict[str, Any]:
    return {
        "host": act.host or None,
        "namespace": act.namespace,
        "container": act.container or None,
        "job_id": act.job_id or None,
        "note": act.note or None,
        "failure": failure_data(act.failure) if act.HasField("failure") else None,
    }
