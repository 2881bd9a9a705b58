"""Requests and reports about the catalogue as a whole, as the API's messages."""

from __future__ import annotations

from datetime import datetime

from migrator.gen.migrator.v1 import retention_pb2 as pb
from migrator.models.retention import GRACE_S, RULES, ForgetRequest, PruneRequest, RetentionPolicy, VerifyRequest
from migrator.models.values import Facts, Job


def forget_from_message(message: pb.ForgetRequest) -> ForgetRequest:
    """Read what is to be forgotten."""
    return ForgetRequest(
        workload_id=message.workload_id or None,
        host=message.host or None,
        container=message.container or None,
        everything=message.everything,
        checkpoint_ids=tuple(message.checkpoint_ids),
        policy=_policy_from(message.policy) if message.HasField("policy") else None,
        dry_run=message.dry_run,
        force=message.force,
        prune=message.prune,
    )


def forget_report(job: Job) -> pb.ForgetReport | None:
    """Write what a job that forgets has chosen; None in other jobs, and before it has."""
    judged = job.facts.get("judged") if job.request.forget is not None else None
    return None if judged is None else pb.ForgetReport(judged=[_judgement(found) for found in judged])


def prune_from_message(message: pb.PruneRequest) -> PruneRequest:
    """Read how to prune."""
    grace_s = message.grace_s if message.HasField("grace_s") else GRACE_S
    return PruneRequest(grace_s=grace_s, dry_run=message.dry_run)


def verify_from_message(message: pb.VerifyRequest) -> VerifyRequest:
    """Read how to verify."""
    return VerifyRequest(read_data=message.read_data, repair=message.repair, rebuild=message.rebuild)


def verify_report(job: Job) -> pb.VerifyReport | None:
    """Write what a verification found; None in other jobs."""
    found = job.facts.get("verified")
    if found is None:
        return None
    return pb.VerifyReport(**(found | {"damaged": [pb.Damage(**damage) for damage in found["damaged"]]}))


def prune_report(job: Job) -> pb.PruneReport | None:
    """Write what a job pruned; None if it did not."""
    found = job.facts.get("pruned")
    return None if found is None else pb.PruneReport(**found)


def _policy_from(message: pb.RetentionPolicy) -> RetentionPolicy:
    counts = {name: getattr(message, name) for name in (*RULES, "minimum")}
    return RetentionPolicy(**counts, within=message.within, time_zone=message.time_zone or "UTC")


def _judgement(found: Facts) -> pb.Judgement:
    message = pb.Judgement(**{name: value for name, value in found.items() if name != "created_at"})
    message.created_at.FromDatetime(datetime.fromisoformat(found["created_at"]))
    return message
