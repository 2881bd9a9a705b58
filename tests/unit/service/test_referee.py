"""The controller says "over", "gone" and "owned" only of what it knows to be so."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from migrator.models.housekeeping import Check, Clearance, Examination, Fate, Finding, FindingKind, Level, Question
from migrator.models.phase import JobKind, Phase
from migrator.models.session import Database
from migrator.models.values import Job, JobRequest, Workload
from migrator.service.housekeeping.referee import SETTLED, Referee
from migrator.service.messages import CLEARANCE, EXAMINATION, QUESTION
from migrator.tasks.control import EXPIRES_S

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
JOB = "mig-2222222222"


class Bench:
    """A referee, and what it answered."""

    def __init__(self, directory: Path):
        self.database = Database(f"sqlite:///{directory / 'migrator.db'}")
        self.database.upgrade()
        self.answers: list[tuple[str, str, Clearance, bool]] = []
        self.referee = Referee(self.database, self, now=lambda: NOW)

    def send_clearance(self, host: str, token: str, clearance: Clearance, *, sweep: bool) -> None:
        self.answers.append((host, token, CLEARANCE.unpack(CLEARANCE.pack(clearance)), sweep))

    def ask(self, host: str = "alpha", **names: tuple[str, ...]) -> Clearance:
        question = QUESTION.unpack(QUESTION.pack(Question(**names)))
        self.referee.judge(host, "exam-1", question, sweep=True)
        return self.answers[-1][2]

    def add_job(self, phase: Phase, ended_ago_s: float = 3600, workload: str | None = None, job_id: str = JOB) -> None:
        ended = NOW - timedelta(seconds=ended_ago_s)
        request = JobRequest(JobKind.MIGRATION, source_host="alpha", container="web", target_host="beta")
        finished_at = ended if phase.terminal else None
        job = Job(job_id, request, phase, 1, ended, ended, finished_at=finished_at, workload_id=workload)
        with self.database.transaction() as tx:
            tx.jobs.add(job)

    def own(self, host: str = "alpha", workload: str = "web-1") -> None:
        with self.database.transaction() as tx:
            tx.workloads.add(Workload(workload, "default", "web", host, 1))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.database.close()


@pytest.mark.parametrize("phase", [Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELLED])
def test_a_job_that_ended_a_while_ago_is_over(bench: Bench, phase: Phase) -> None:
    bench.add_job(phase)
    assert bench.ask(jobs=(JOB,)) == Clearance(over={JOB: phase.value})


@pytest.mark.parametrize("phase", sorted(set(Phase) - {Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELLED}))
def test_any_other_job_is_not_over(bench: Bench, phase: Phase) -> None:
    bench.add_job(phase)
    assert bench.ask(jobs=(JOB,)) == Clearance(under_way=(JOB,))


def test_a_job_that_has_only_just_ended_is_not_over(bench: Bench) -> None:
    bench.add_job(Phase.FAILED, ended_ago_s=SETTLED.total_seconds() - 1)
    assert bench.ask(jobs=(JOB,)) == Clearance(under_way=(JOB,))
    assert SETTLED.total_seconds() > EXPIRES_S, "a command of it could still arrive"


def test_nothing_is_said_of_an_unknown_job(bench: Bench) -> None:
    assert bench.ask(jobs=(JOB,)) == Clearance()


def test_a_workload_is_gone_when_no_job_is_about_it(bench: Bench) -> None:
    assert bench.ask(workloads=("web-1",)).gone == ("web-1",)
    bench.own()
    assert bench.ask(workloads=("web-1",)).gone == ()


@pytest.mark.parametrize("phase", [Phase.ROLLING_BACK, Phase.NEEDS_OPERATOR])
def test_a_workload_that_a_job_still_names_is_not_gone(bench: Bench, phase: Phase) -> None:
    """A restore that is taken back forgets its workload first, and then cleans up under its epoch."""
    bench.add_job(phase, workload="web-1")
    assert bench.ask(workloads=("web-1",)).gone == ()


def test_a_container_is_owned_by_one_host(bench: Bench) -> None:
    bench.own("alpha")
    names = ("default/web", "default/other", "k8s.io/web")
    assert bench.ask("alpha", containers=names).owned == ("default/web",)
    assert bench.ask("beta", containers=names).owned == ()


@pytest.mark.parametrize(("phase", "held"), [(Phase.DUMPING, ("default/web",)), (Phase.FAILED, ())])
def test_a_container_is_held_by_a_job_that_works_on_it(bench: Bench, phase: Phase, held: tuple[str, ...]) -> None:
    bench.own("alpha")
    bench.add_job(phase, workload="web-1")
    assert bench.ask(containers=("default/web",)).held == held


def test_what_a_host_found_is_kept_for_the_one_who_asked(bench: Bench) -> None:

    finding = Finding(FindingKind.LEASE, "migrator-x", Fate.DUE, "why", "default", JOB, NOW)
    examination = Examination((finding,), (Check("criu", Level.FINE, "4.2"),), NOW)
    bench.referee.record("alpha", "exam-1", EXAMINATION.pack(examination))
    bench.referee.record("alpha", "exam-1", {"late": "second answer"})
    with bench.database.transaction(write=False) as tx:
        assert tx.examinations.find("exam-2") is None
        assert EXAMINATION.unpack(tx.examinations.find("exam-1") or {}) == examination
    later = Referee(bench.database, bench, now=lambda: NOW + timedelta(hours=2))
    later.record("alpha", "exam-2", EXAMINATION.pack(examination))
    with bench.database.transaction(write=False) as tx:
        assert tx.examinations.find("exam-1") is None
