"""Hosts are asked how they are, now; one that does not answer is named."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from migrator.gen.migrator.v1 import migrator_pb2 as pb
from migrator.models.housekeeping import Check, Examination, Fate, Finding, FindingKind, HostExamination, Level
from migrator.service.housekeeping import examining
from tests.servers.api import CALL_S, ServedApi, failure_of

SINCE = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LEASE = Finding(
    FindingKind.LEASE, "migrator-mig-2222222222", Fate.DUE, "its job is over", "default", "mig-2222222222", SINCE
)
CRIU = Check("criu", Level.WRONG, "3.16", "install CRIU 4.2 or newer")


def examined(host: str, taken_at: datetime | None = None) -> HostExamination:
    return HostExamination(host, Examination((LEASE,), (CRIU,), taken_at))


def ask(api: ServedApi, host: str = "", *, fix: bool = False) -> list[pb.HostExamination]:
    return list(api.hosts.ExamineHosts(pb.ExamineHostsRequest(host=host, fix=fix), timeout=CALL_S).hosts)


@pytest.fixture
def two(api: ServedApi) -> ServedApi:
    api.beat("alpha", "beta")
    return api


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOOK_S", "SILENT_LOOK_S", "FIX_S"):
        monkeypatch.setattr(examining, name, 0.5)


def test_what_a_host_found_is_told(two: ServedApi) -> None:
    two.examine(examined("alpha"), examined("beta"))
    alpha, beta = ask(two)
    assert (alpha.host, beta.host) == ("alpha", "beta")
    (found,) = alpha.findings
    assert (found.kind, found.namespace, found.name, found.job_id) == ("lease", "default", LEASE.name, LEASE.job_id)
    assert (found.fate, found.reason, found.since.ToDatetime(tzinfo=UTC)) == ("due", "its job is over", SINCE)
    criu, clock = alpha.checks
    assert (criu.name, criu.level, criu.value, criu.remedy) == ("criu", "wrong", "3.16", CRIU.remedy)
    assert (clock.name, clock.level) == ("clock", "fine")
    assert not alpha.HasField("failure")


@pytest.mark.parametrize("fix", [False, True])
def test_one_host_is_asked_alone_and_to_sweep_only_if_wanted(two: ServedApi, fix: bool) -> None:
    asked: list[tuple[str, bool]] = []
    two.examine(examined("beta"))
    answer = two.bell.examines
    two.bell.examines = lambda host, token, sweep: (asked.append((host, sweep)), answer(host, token, sweep))  # type: ignore[assignment,func-returns-value]
    assert [item.host for item in ask(two, "beta", fix=fix)] == ["beta"]
    assert asked == [("beta", fix)]


def test_a_host_that_does_not_answer_is_named_beside_the_others(two: ServedApi) -> None:
    two.examine(examined("alpha"))
    alpha, beta = ask(two)
    assert alpha.checks
    assert (beta.failure.code, beta.failure.host) == ("host_silent", "beta")
    assert "migrator controller" in beta.failure.remedy
    assert not beta.checks


def test_a_silent_host_is_asked_all_the_same(two: ServedApi) -> None:
    two.beat("alpha", "beta", age_s=60)
    two.examine(examined("alpha"))
    alpha, beta = ask(two)
    assert alpha.checks, "its clock may be what is wrong"
    assert (beta.failure.kind, beta.failure.code) == ("Unavailable", "no_live_worker")
    assert "migrator worker --host beta" in beta.failure.remedy


@pytest.mark.parametrize(
    ("apart_s", "level", "word"), [(-3, "doubtful", "behind"), (3, "doubtful", "ahead"), (-600, "wrong", "behind")]
)
def test_a_clock_that_is_apart_is_told(two: ServedApi, apart_s: float, level: str, word: str) -> None:
    two.examine(examined("alpha", datetime.now(UTC) + timedelta(seconds=apart_s)))
    clock = ask(two, "alpha")[0].checks[-1]
    assert (clock.name, clock.level) == ("clock", level)
    assert word in clock.value
    assert clock.remedy


def test_a_broker_that_is_down_is_named_at_once(two: ServedApi) -> None:
    two.bell.broken = True
    began = time.monotonic()
    assert {item.failure.code for item in ask(two)} == {"broker_unavailable"}
    assert time.monotonic() - began < 0.4


def test_no_such_host(two: ServedApi) -> None:
    status, failure = failure_of(lambda: ask(two, "nowhere"))
    assert (status, failure.code) == ("NOT_FOUND", "host_not_found")


def test_there_is_no_host_yet(api: ServedApi) -> None:
    assert ask(api) == []
