"""Checks become findings, findings become facts or an error, facts become the report and the forecast."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from migrator.errors import NotFound, PreconditionFailed, ResourceExhausted
from migrator.models.phase import JobKind, Phase
from migrator.models.preflight import Finding, Grade
from migrator.models.values import Facts, Job, JobRequest, Mode, StepStatus
from migrator.service.host import Act
from migrator.service.plans import MIGRATION, PREFLIGHT, steps_for
from migrator.service.preflight.checks import conclude, examine
from migrator.service.preflight.forecast import FIXED_MS, FORECAST, model_ms, predict
from migrator.service.preflight.report import preflight_of, told

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
WARNING = Finding("some", Grade.WARN, "is odd", "odd", "mend it")
FAILURE = Finding("some", Grade.FAIL, "is bad", "bad", "leave it", NotFound.__name__)


def new_job(kind: JobKind = JobKind.PREFLIGHT, **facts: Facts) -> Job:
    """A job whose steps are done with these facts (underscores in their names)."""
    request = JobRequest(kind, source_host="alpha", container="web", target_host="beta")
    done = {"status": StepStatus.DONE, "started_at": NOW, "finished_at": NOW + timedelta(seconds=0.2)}
    steps = [replace(step, **done, facts=facts.get(step.name.replace("-", "_"), {})) for step in steps_for(request)]
    return Job("pre-1", request, Phase.SUCCEEDED, 1, NOW, NOW, steps=tuple(steps))


def act(kind: JobKind) -> Act:
    command: Any = SimpleNamespace(request=JobRequest(kind))
    return Act(command, lambda *_: None)


def check_well(_: None) -> Iterator[Finding]:
    yield from ()


def check_odd_things(_: None) -> Iterator[Finding]:
    yield WARNING


def check_bad(_: None) -> Iterator[Finding]:
    yield FAILURE


def check_broken(_: None) -> Iterator[Finding]:
    raise ResourceExhausted("is full", code="no_room", remedy="make room")


def test_every_check_gives_something_under_its_own_name() -> None:
    found = list(examine((check_well, check_odd_things, check_bad, check_broken), None))
    assert [(finding.check, finding.grade.value, finding.code) for finding in found] == [
        ("well", "pass", ""),
        ("odd-things", "warn", "odd"),
        ("bad", "fail", "bad"),
        ("broken", "fail", "no_room"),
    ]
    assert found[3].remedy == "make room"


def test_of_a_great_many_findings_a_few_are_told() -> None:
    def check_crowd(_: None) -> Iterator[Finding]:
        yield from (replace(FAILURE, message=f"process {number} is bad") for number in range(1000))

    found = list(examine((check_crowd,), None))
    assert [finding.message for finding in found[4:]] == ["process 4 is bad", "and 995 more like these"]
    assert {finding.code for finding in found} == {"bad"}


def test_a_preflight_keeps_all_findings() -> None:
    checks = (check_broken, check_well, check_odd_things, check_bad)
    assert len(conclude(examine(checks, None), act(JobKind.PREFLIGHT))) == 4


@pytest.mark.parametrize("kind", [JobKind.MIGRATION, JobKind.CHECKPOINT, JobKind.RESTORE])
def test_a_job_that_acts_keeps_warnings_and_stops_at_the_first_failure(kind: JobKind) -> None:
    assert [f.code for f in conclude(examine((check_well, check_odd_things), None), act(kind))] == ["odd"]
    with pytest.raises(NotFound) as caught:
        conclude(examine((check_bad, check_broken), None), act(kind))
    assert (caught.value.code, caught.value.remedy, caught.value.host) == ("bad", "leave it", None)
    with pytest.raises(ResourceExhausted):
        conclude(examine((check_broken, check_bad), None), act(kind))


def test_after_a_failure_no_further_check_is_made() -> None:
    def check_never(_: None) -> Iterator[Finding]:
        raise AssertionError

    with pytest.raises(NotFound):
        conclude(examine((check_bad, check_never), None), act(JobKind.MIGRATION))


def test_a_finding_travels() -> None:
    assert Finding.from_facts(FAILURE.to_facts()) == FAILURE


def inspected(*findings: Finding, at: timedelta = timedelta(seconds=0.1)) -> Facts:
    return told(findings) | {"looked_at": (NOW + at).isoformat()}


def test_the_report_names_hosts_and_clocks() -> None:
    job = new_job(inspect_source=inspected(WARNING), inspect_target=inspected(at=timedelta(seconds=-3)))
    found = [(f.host, f.finding.check, f.finding.grade.value) for f in preflight_of(job).findings]
    assert found == [("alpha", "some", "warn"), ("alpha", "clock", "pass"), ("beta", "clock", "warn")]
    late = preflight_of(job).findings[-1].finding
    assert (late.code, late.message) == ("clock_apart", "3.0 s behind the control plane")


@pytest.mark.parametrize(("apart_s", "word"), [(3.2, "ahead of"), (-5, "behind")])
def test_a_migration_is_told_of_a_clock_only_when_it_is_apart(apart_s: float, word: str) -> None:
    well = new_job(JobKind.MIGRATION, inspect_source=inspected())
    assert preflight_of(well).findings == ()
    (found,) = preflight_of(
        new_job(JobKind.MIGRATION, inspect_source=inspected(at=timedelta(seconds=apart_s)))
    ).findings
    assert word in found.finding.message


def test_jobs_of_former_versions_have_no_findings() -> None:
    assert preflight_of(new_job(JobKind.MIGRATION)).findings == ()
    assert preflight_of(new_job(JobKind.MIGRATION)).forecast is None


def moved(size_bytes: int, freeze_ms: float) -> Job:
    """A migration that froze its container for so long."""
    job = new_job(JobKind.MIGRATION, inspect_source={"estimate_bytes": size_bytes})
    ends = {"freeze": NOW, "restore": NOW + timedelta(milliseconds=freeze_ms)}
    return replace(job, steps=tuple(replace(s, finished_at=ends.get(s.name, s.finished_at)) for s in job.steps))


def test_without_history_a_default_model_is_named() -> None:
    forecast = predict(new_job(inspect_source={"estimate_bytes": 1 << 30}), [])
    assert forecast.freeze_ms == model_ms(1 << 30, Mode(forecast.mode)) > FIXED_MS
    assert "default model" in forecast.basis


def test_the_fleets_own_freezes_correct_the_model() -> None:
    size_bytes = 256 << 20
    past = [moved(size_bytes, factor * model_ms(size_bytes)) for factor in (2.0, 0.5, 0.4)]
    forecast = predict(new_job(inspect_source={"estimate_bytes": 1 << 30}), [*past, new_job()])
    assert forecast.freeze_ms == pytest.approx(0.5 * model_ms(1 << 30), rel=0.01), "the median"
    assert forecast.basis == "the last 3 migrations of this fleet"


def test_a_forecast_shows_the_steps_of_a_migration() -> None:
    job = new_job(inspect_source={"estimate_bytes": 10, "image_upload_bytes": 20})
    job = replace(job, steps=(*job.steps[:-1], replace(job.steps[-1], facts={FORECAST: predict(job, []).to_facts()})))
    forecast = preflight_of(job).forecast
    assert forecast is not None
    assert [step.name for step in forecast.steps] == [line.step for line in MIGRATION]
    assert (forecast.checkpoint_bytes, forecast.image_upload_bytes, forecast.image_download_bytes) == (10, 20, 0)


def test_the_plan_of_a_preflight_only_looks() -> None:
    assert [line.step for line in PREFLIGHT] == ["inspect-source", "inspect-target", "predict"]
    with pytest.raises(PreconditionFailed):
        conclude([replace(FAILURE, kind="PreconditionFailed")], act(JobKind.MIGRATION))
