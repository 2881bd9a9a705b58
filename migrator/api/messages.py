"""Our values as the API's messages."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC

from migrator.api.drain_messages import cordon_message, drain_from, drain_message
from migrator.api.moments import stamp
from migrator.api.retention_messages import (
    forget_from_message,
    forget_report,
    prune_from_message,
    prune_report,
    verify_from_message,
    verify_report,
)
from migrator.errors import InvalidRequest
from migrator.gen.migrator.v1 import migrator_pb2 as pb
from migrator.models.hooks import Hooks, read_policies
from migrator.models.housekeeping import Finding, HostExamination
from migrator.models.phase import JobKind, JobState
from migrator.models.preflight import Forecast, HostFinding
from migrator.models.values import (
    Checkpoint,
    CheckpointDetail,
    ContainerView,
    Facts,
    HostView,
    Job,
    JobRequest,
    Keep,
    Measures,
    Mode,
    NetworkPolicy,
    Probe,
    Resolution,
    Step,
    StorePath,
    TcpPolicy,
)
from migrator.models.volumes import VolumePolicy
from migrator.service.choosing import Choice
from migrator.service.preflight.report import preflight_of
from migrator.service.requests import DRAINS

KINDS = {kind: pb.JobKind.Value(f"JOB_KIND_{kind.name}") for kind in JobKind}
KEEPS = {keep: pb.Keep.Value(f"KEEP_{keep.name}") for keep in Keep}
TCP_POLICIES = {policy: pb.TcpPolicy.Value(f"TCP_POLICY_{policy.name}") for policy in TcpPolicy}
STATES = {state: pb.JobState.Value(f"JOB_STATE_{state.name}") for state in JobState}


def request_from(message: pb.CreateJobRequest) -> JobRequest | None:
    """Read what somebody asks for; None when the kind is missing.

    Raises:
        InvalidRequest: `bad_volume`, `bad_hook`.
    """
    kind = next((kind for kind, number in KINDS.items() if number == message.kind), None)
    if kind is None:
        return None
    return JobRequest(
        kind=kind,
        namespace=message.namespace or "default",
        source_host=message.source or None,
        container=message.container or None,
        target_host=message.target or None,
        checkpoint_id=message.checkpoint_id or None,
        new_name=message.new_name or None,
        keep_checkpoint=message.keep_checkpoint,
        volumes={name: _policy_from(name, word) for name, word in message.volumes.items()},
        external_unix_sockets=message.external_unix_sockets,
        tcp=tcp_from(message.tcp),
        hooks=hooks_from(message.hooks),
        volumes_at=message.volumes_at,
        network=_network_from(message.network),
        mode=_mode_from(message.mode),
        max_downtime_s=message.max_downtime_s or None,
        force=message.force,
        path=_path_from(message.path),
        bandwidth_bytes_s=message.bandwidth_bytes_s or None,
        bandwidth_in_freeze=message.bandwidth_in_freeze,
        probe=Probe(message.probe.command, message.probe.timeout_s or None),
        forget=forget_from_message(message.forget) if message.HasField("forget") else None,
        prune=prune_from_message(message.prune) if message.HasField("prune") else None,
        verify=verify_from_message(message.verify) if message.HasField("verify") else None,
        drain=drain_from(message.drain) if kind in DRAINS or message.HasField("drain") else None,
    )


def choice_from(message: pb.CreateJobRequest) -> Choice | None:
    """Read of which workload, and of which time, a checkpoint shall be; None when its id is given.

    Raises:
        InvalidRequest: `contradictory_request`.
    """
    at = message.at.ToDatetime(UTC) if message.HasField("at") else None
    if ((message.workload or at) and message.checkpoint_id) or (at and not message.workload):
        raise InvalidRequest(
            "a time is for a workload, and a checkpoint's id stands for itself",
            code="contradictory_request",
            remedy="name HOST/CONTAINER and a time, or the id of a checkpoint alone",
        )
    return Choice(message.workload, message.namespace or "default", at) if message.workload else None


def _network_from(word: str) -> NetworkPolicy:
    try:
        return NetworkPolicy(word or NetworkPolicy.KEEP)
    except ValueError as error:
        raise InvalidRequest(
            f"'{word[:100]}' does not say how it is connected",
            code="bad_network_policy",
            remedy=f"one of {', '.join(NetworkPolicy)}",
        ) from error


def _mode_from(word: str) -> Mode:
    try:
        return Mode(word or Mode.AUTO)
    except ValueError as error:
        raise InvalidRequest(
            f"'{word[:100]}' does not say when a program gets its memory",
            code="bad_mode",
            remedy=f"one of {', '.join(Mode)}",
        ) from error


def _path_from(word: str) -> StorePath:
    try:
        return StorePath(word or StorePath.CHUNKS)
    except ValueError as error:
        raise InvalidRequest(
            f"'{word[:100]}' is no form in which memory goes through the store",
            code="bad_path",
            remedy=f"one of {', '.join(StorePath)}",
        ) from error


def hooks_from(message: pb.Hooks) -> Hooks:
    """Read what runs before and after a freeze.

    Raises:
        InvalidRequest: `bad_hook`.
    """
    return Hooks(message.before, message.after, message.timeout_s or None, *read_policies(message.on_failure))


def hooks_message(hooks: Hooks) -> pb.Hooks | None:
    """Write what runs before and after a freeze; nothing if nothing was said."""
    if hooks == Hooks():
        return None
    return pb.Hooks(before=hooks.before, after=hooks.after, timeout_s=hooks.timeout_s or 0, on_failure=hooks.policies)


def tcp_from(number: int) -> TcpPolicy:
    """Read what becomes of open connections; keep when nothing is said.

    Raises:
        InvalidRequest: `bad_tcp_policy`.
    """
    if number == pb.TCP_POLICY_UNSPECIFIED:
        return TcpPolicy.KEEP
    policy = next((policy for policy, known in TCP_POLICIES.items() if known == number), None)
    if policy is None:
        raise InvalidRequest(
            f"{number} is no policy for TCP connections", code="bad_tcp_policy", remedy="one of keep, close, refuse"
        )
    return policy


def states_from(numbers: Iterable[int]) -> frozenset[JobState]:
    """Read a filter of states.

    Raises:
        InvalidRequest: `bad_state`. To leave it out would widen the filter.
    """
    known: dict[int, JobState] = {number: state for state, number in STATES.items()}
    wanted = list(numbers)
    unknown = [number for number in wanted if number not in known]
    if unknown:
        raise InvalidRequest(
            f"{unknown[0]} is no state of a job", code="bad_state", remedy=f"one of {', '.join(pb.JobState.keys()[1:])}"
        )
    return frozenset(known[number] for number in wanted)


def job_message(job: Job, measures: Measures) -> pb.Job:
    """Write a job."""
    request, preflight = job.request, preflight_of(job)
    return pb.Job(
        id=job.id,
        kind=KINDS[request.kind],
        state=STATES[job.state],
        phase=job.phase.value,
        source=request.source_host or (request.forget.host if request.forget else None) or "",
        container=request.container or (request.forget.container if request.forget else None) or "",
        target=request.target_host or "",
        namespace=request.namespace,
        checkpoint_id=job.checkpoint_id or "",
        new_name=request.new_name or "",
        created_at=stamp(job.created_at),
        updated_at=stamp(job.updated_at),
        finished_at=stamp(job.finished_at),
        failure=failure_message(job.failure),
        cancel_requested=job.cancel_requested,
        steps=[_step_message(step) for step in job.steps],
        measures=_measures_message(measures),
        resolutions=[_resolution_message(resolution) for resolution in job.resolutions],
        findings=[_preflight_finding_message(found) for found in preflight.findings],
        forecast=_forecast_message(preflight.forecast),
        restored=str(job.facts.get("restored", "")),
        why_eager=str(job.facts.get("why_eager", "")),
        dumped=str(job.facts.get("dumped", "")),
        hooks=hooks_message(request.hooks),
        forget=forget_report(job),
        prune=prune_report(job),
        verify=verify_report(job),
        schedule=request.schedule or "",
        drain=drain_message(job),
        rewinds_to=(request.checkpoint_id or "") if request.kind is JobKind.REWIND else "",
    )


def _preflight_finding_message(found: HostFinding) -> pb.PreflightFinding:
    finding = found.finding
    return pb.PreflightFinding(
        host=found.host,
        check=finding.check,
        grade=finding.grade.value,
        message=finding.message,
        code=finding.code,
        remedy=finding.remedy,
    )


def _forecast_message(forecast: Forecast | None) -> pb.Forecast | None:
    if forecast is None:
        return None
    return pb.Forecast(
        steps=[pb.Step(name=step.name, host=step.host or "", phase=step.phase.value) for step in forecast.steps],
        checkpoint_bytes=forecast.checkpoint_bytes,
        image_upload_bytes=forecast.image_upload_bytes,
        image_download_bytes=forecast.image_download_bytes,
        freeze_ms=forecast.freeze_ms,
        basis=forecast.basis,
        mode=forecast.mode,
        why=forecast.why,
        limit_ms=forecast.limit_ms,
        change_bytes_s=forecast.change_bytes_s,
        store_bytes_s=forecast.store_bytes_s,
    )


def keep_from(number: int) -> Keep:
    """Read which copy shall go on.

    Raises:
        InvalidRequest: `bad_keep`.
    """
    keep = next((keep for keep, known in KEEPS.items() if known == number), None)
    if keep is None:
        raise InvalidRequest("say which copy shall go on", code="bad_keep", remedy="one of source, target")
    return keep


def failure_message(failure: Facts | None) -> pb.Failure | None:
    """Write `MigratorError.to_dict()`."""
    if failure is None:
        return None
    names = ("kind", "code", "message", "host", "remedy")
    return pb.Failure(**{name: str(failure.get(name) or "") for name in names})


def host_message(view: HostView) -> pb.Host:
    """Write a host."""
    facts = {name: str(value) for name, value in view.host.facts.items() if name != "boot_id"}
    return pb.Host(
        name=view.host.name,
        alive=view.alive,
        seen_at=stamp(view.host.seen_at),
        facts=facts,
        cordon=cordon_message(view.cordon),
    )


def container_message(view: ContainerView) -> pb.Container:
    """Write a container."""
    return pb.Container(
        host=view.host,
        namespace=view.namespace,
        name=view.name,
        status=view.status,
        image=view.image,
        pid=view.pid,
        memory_bytes=view.memory_bytes,
        labels=view.labels,
    )


def examination_message(host: HostExamination) -> pb.HostExamination:
    """Write what a host found when it looked at itself."""
    seen = host.examination
    return pb.HostExamination(
        host=host.host,
        checks=[pb.Check(name=c.name, level=c.level.value, value=c.value, remedy=c.remedy) for c in seen.checks]
        if seen
        else [],
        findings=[_finding_message(finding) for finding in seen.findings] if seen else [],
        failure=failure_message(host.failure),
    )


def checkpoint_message(checkpoint: Checkpoint) -> pb.Checkpoint:
    """Write a checkpoint."""
    return pb.Checkpoint(
        id=checkpoint.id,
        workload_id=checkpoint.workload_id,
        job_id=checkpoint.job_id or "",
        host=checkpoint.host,
        namespace=checkpoint.namespace,
        container=checkpoint.container,
        image=checkpoint.image,
        index_digest=checkpoint.index_digest,
        size_bytes=checkpoint.size_bytes,
        created_at=stamp(checkpoint.created_at),
        drilled_at=stamp(checkpoint.drilled_at),
        drill_failure=checkpoint.drill_failure or "",
        proven_at=stamp(checkpoint.proven_at),
        restore_s=checkpoint.restore_s,
        backup=checkpoint.backup,
        stored_bytes=checkpoint.stored_bytes,
        pinned_at=stamp(checkpoint.pinned_at),
        pin_reason=checkpoint.pin_reason,
        verified_at=stamp(checkpoint.verified_at),
        damage=checkpoint.damage,
        schedule=checkpoint.schedule or "",
    )


def detail_message(detail: CheckpointDetail) -> pb.GetCheckpointResponse:
    """Write a checkpoint with its parts."""
    parts = [
        pb.CheckpointPart(role=part.role, media_type=part.media_type, digest=part.digest, size_bytes=part.size_bytes)
        for part in detail.parts
    ]
    return pb.GetCheckpointResponse(checkpoint=checkpoint_message(detail.checkpoint), parts=parts, facts=detail.facts)


def _policy_from(destination: str, word: str) -> VolumePolicy:
    try:
        return VolumePolicy(word)
    except ValueError as error:
        raise InvalidRequest(
            f"'{word[:100]}' is no policy for volume {destination[:100]}",
            code="bad_volume",
            remedy=f"one of {', '.join(VolumePolicy)}",
        ) from error


def _finding_message(finding: Finding) -> pb.Finding:
    return pb.Finding(
        kind=finding.kind.value,
        namespace=finding.namespace,
        name=finding.name,
        job_id=finding.job_id,
        since=stamp(finding.since),
        fate=finding.fate.value,
        reason=finding.reason,
    )


def _step_message(step: Step) -> pb.Step:
    return pb.Step(
        name=step.name,
        host=step.host or "",
        phase=step.phase.value,
        status=step.status.value,
        attempt=step.attempt,
        started_at=stamp(step.started_at),
        finished_at=stamp(step.finished_at),
        duration_ms=None if step.duration_s is None else step.duration_s * 1000,
        progress_bytes=step.progress_bytes,
        total_bytes=step.total_bytes,
        failure=failure_message(step.failure),
    )


def _resolution_message(resolution: Resolution) -> pb.Resolution:
    at, keep = stamp(resolution.at), KEEPS[resolution.keep]
    return pb.Resolution(at=at, keep=keep, actor=resolution.actor, reason=resolution.reason)


def _measures_message(measures: Measures) -> pb.Measures:
    return pb.Measures(**{name: getattr(measures, name) for name in measures.__slots__})
