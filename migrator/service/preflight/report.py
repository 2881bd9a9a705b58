"""What a job's preflight found, read from the facts of its steps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields
from datetime import UTC, datetime, timedelta

from migrator.models.phase import JobKind
from migrator.models.preflight import Finding, Forecast, Grade, HostFinding, Preflight
from migrator.models.values import Facts, Job, JobRequest, Step
from migrator.service.plans import steps_for
from migrator.service.preflight.forecast import FORECAST

TOLD = {field.name for field in fields(Forecast)} - {"steps", "limit_ms"}
DOUBTFUL_CLOCK = timedelta(seconds=1)
FINDINGS = "findings"
"""Among the facts of a step that inspects: what its checks saw; a job that acts keeps only what is no pass."""
LOOKED_AT = "looked_at"
"""Among the same facts: when it looked, by the clock of its host."""


def preflight_of(job: Job) -> Preflight:
    """Read the findings of every host, and the forecast where one was made."""
    return Preflight(tuple(_findings(job)), _forecast(job))


def told(findings: Iterable[Finding]) -> Facts:
    """What a step that inspects tells of its findings, and when it looked."""
    return {FINDINGS: [finding.to_facts() for finding in findings], LOOKED_AT: datetime.now(UTC).isoformat()}


def warned(*findings: Finding) -> Facts:
    """What a step that does not inspect, and has no clock to compare, tells all the same."""
    return {FINDINGS: [finding.to_facts() for finding in findings]}


def _findings(job: Job) -> Iterator[HostFinding]:
    for step in job.steps:
        if step.host is not None and FINDINGS in step.facts:
            found = [Finding.from_facts(facts) for facts in step.facts[FINDINGS]]
            clock = _clock(step)
            wanted = clock.grade is not Grade.PASS or job.request.kind is JobKind.PREFLIGHT
            yield from (HostFinding(step.host, finding) for finding in (*found, *([clock] if wanted else [])))


def _clock(step: Step) -> Finding:
    """The host looked at some moment between the controller's question and the arrival of its answer."""
    looked_at, asked_at, answered_at = step.facts.get(LOOKED_AT), step.started_at, step.finished_at
    if looked_at is None or asked_at is None or answered_at is None:
        return Finding("clock", Grade.PASS, "not compared")
    seen = datetime.fromisoformat(looked_at)
    behind, ahead = asked_at - seen, seen - answered_at
    apart = max(behind, ahead, timedelta())
    if apart < DOUBTFUL_CLOCK:
        return Finding("clock", Grade.PASS, "agrees with the control plane")
    side = "behind" if behind > ahead else "ahead of"
    return Finding(
        "clock",
        Grade.WARN,
        f"{apart.total_seconds():.1f} s {side} the control plane",
        code="clock_apart",
        remedy="set the clocks, for example with chrony: messages expire after 30 s",
    )


def _forecast(job: Job) -> Forecast | None:
    facts = next((step.facts.get(FORECAST) for step in job.steps if step.name == "predict"), None)
    if not facts:
        return None
    request = job.request
    migration = JobRequest(
        JobKind.MIGRATION, request.namespace, request.source_host, request.container, request.target_host
    )
    limit_ms = request.max_downtime_s * 1000 if request.max_downtime_s is not None else None
    known = {name: facts[name] for name in TOLD if name in facts}
    return Forecast(steps=steps_for(migration), limit_ms=limit_ms, **known)
