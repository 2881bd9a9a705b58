"""Processes that CRIU cannot take hold of, looked at as the kernel tells of them."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from migrator.models.preflight import Finding, Grade
from migrator.service.preflight import states
from migrator.service.preflight.subject import Subject


@pytest.fixture
def sleeper() -> Iterator[int]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process.pid
        process.kill()


def subject(*pids: int) -> Subject:
    task = SimpleNamespace(pid=pids[0], pids=lambda: [SimpleNamespace(pid=pid) for pid in pids])
    nothing = cast(Any, None)
    return Subject(nothing, nothing, nothing, cast(Any, SimpleNamespace(id="web")), cast(Any, task))


def only(findings: Iterator[Finding]) -> Finding:
    (finding,) = findings
    assert finding.grade is Grade.FAIL
    assert finding.remedy
    return finding


def test_a_stopped_process_is_refused_and_one_that_sleeps_is_not(sleeper: int) -> None:
    assert list(states.check_stopped(subject(os.getpid(), sleeper))) == []
    os.kill(sleeper, signal.SIGSTOP)
    deadline = time.monotonic() + 10
    while "T (stopped)" not in Path(f"/proc/{sleeper}/status").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    found = only(states.check_stopped(subject(os.getpid(), sleeper)))
    assert found.code == "stopped_process"
    assert str(sleeper) in found.message


def test_a_thread_that_keeps_to_one_processor_is_told(sleeper: int) -> None:
    usual = os.sched_getaffinity(0)
    assert list(states.check_pinned(subject(sleeper))) == []
    one = min(usual)
    limited = replace(subject(sleeper), spec={"linux": {"resources": {"cpu": {"cpus": f"{one},{max(usual) + 1}"}}}})
    (found,) = states.check_pinned(limited)
    assert (found.grade, found.code) == (Grade.WARN, "pinned_processors")
    os.sched_setaffinity(sleeper, {one})
    limited.spec["linux"]["resources"]["cpu"]["cpus"] = str(one)
    assert list(states.check_pinned(limited)) == [], "the container's own limit"
    assert bool(list(states.check_pinned(subject(sleeper)))) == (len(usual) > 1)


def test_a_list_of_processors() -> None:
    assert states.parse_processors("0-2,7") == {0, 1, 2, 7}
    assert states.parse_processors("") == set()


def test_a_process_that_is_gone_is_no_matter(sleeper: int) -> None:
    os.kill(sleeper, signal.SIGKILL)
    os.waitpid(sleeper, 0)
    assert list(states.check_stopped(subject(sleeper))) == []


@pytest.mark.parametrize(
    ("users", "capable", "code"),
    [("0\t0\t0\t0", False, None), ("70\t70\t70\t70", False, "no_cap_sys_resource"), ("70\t70\t70\t70", True, None)],
)
def test_other_users_need_a_capability(
    users: str, capable: bool, code: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {"State": "S (sleeping)", "Uid": users, "Gid": "0\t0\t0\t0", "CapEff": f"{capable << 24:x}"}
    monkeypatch.setattr(states, "read_status", lambda _: told)
    found = states.check_users(subject(7, 8))
    assert (only(found).code if code else next(found, None)) == code
