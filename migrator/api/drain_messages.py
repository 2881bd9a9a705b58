"""Drains as the API's messages, and back."""

from __future__ import annotations

from migrator.api.moments import stamp
from migrator.gen.migrator.v1 import drains_pb2 as pb
from migrator.models.drains import PARALLEL, Cordon, DrainOptions, Passage
from migrator.models.values import Job
from migrator.service.drains.rounds import passages_of
from migrator.service.requests import DRAINS


def drain_from(message: pb.DrainOptions) -> DrainOptions:
    """Read how a host is to be drained."""
    return DrainOptions(
        targets=tuple(dict.fromkeys(message.targets)),
        selector=message.selector.strip(),
        namespaces=tuple(dict.fromkeys(message.namespaces)),
        parallel=message.parallel or PARALLEL,
        dry_run=message.dry_run,
        plan_id=message.plan_id or None,
        return_after_s=message.return_after_s if message.HasField("return_after_s") else None,
        skip_refused=message.skip_refused,
    )


def drain_message(job: Job) -> pb.Drain | None:
    """Write a drain or a return; None of other jobs."""
    if job.request.kind not in DRAINS:
        return None
    passages = [_passage_message(passage) for passage in passages_of(job)]
    return pb.Drain(options=_options_message(job.request.drain or DrainOptions()), passages=passages)


def cordon_message(cordon: Cordon | None) -> pb.Cordon | None:
    """Write why a host takes no new containers; None if it does."""
    if cordon is None:
        return None
    return pb.Cordon(
        since=stamp(cordon.since),
        actor=cordon.actor,
        reason=cordon.reason,
        drain_id=cordon.drain_id or "",
        return_at=stamp(cordon.return_at),
    )


def _options_message(options: DrainOptions) -> pb.DrainOptions:
    return pb.DrainOptions(
        targets=options.targets,
        selector=options.selector,
        namespaces=options.namespaces,
        parallel=options.parallel,
        dry_run=options.dry_run,
        plan_id=options.plan_id or "",
        return_after_s=options.return_after_s,
        skip_refused=options.skip_refused,
    )


def _passage_message(passage: Passage) -> pb.Passage:
    reason = passage.reason or {}
    return pb.Passage(
        namespace=passage.namespace,
        container=passage.container,
        source=passage.source,
        target=passage.target or "",
        status=passage.status.value,
        job_id=passage.job_id or "",
        phase=passage.phase,
        memory_bytes=passage.memory_bytes,
        disk_bytes=passage.disk_bytes,
        code=str(reason.get("code") or ""),
        message=str(reason.get("message") or ""),
        remedy=str(reason.get("remedy") or ""),
        refusals=[
            pb.Refusal(host=host, code=str(failure.get("code") or ""), message=str(failure.get("message") or ""))
            for host, failure in sorted(passage.refusals.items())
        ],
    )
