"""The pause guard: when it lets a task run, and when it waits."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from migrator.containerd import ContainerdClient, ProcessState, Status
from migrator.errors import InternalError, NotFound, Unavailable
from migrator.service import pause_guard
from migrator.service.guards import GuardFile, GuardRecord, GuardState, started_ticks
from migrator.service.pause_guard import ASK_S, PauseGuard

DEAD = {"worker_started": 1}
"""A worker's pid that means another process by now."""


class FakeTask:
    """A paused task; while CRIU works on it, nobody can tell its state."""

    def __init__(self) -> None:
        self.state = ProcessState.PAUSED
        self.held = False
        self.container_id = "c"
        self.pid = 4711

    def resume(self, *, timeout_s: float | None = None) -> None:
        if self.held:
            raise Unavailable("the shim does not answer")
        self.state = ProcessState.RUNNING

    def status(self, *, timeout_s: float | None = None) -> Status:
        return Status(ProcessState.UNKNOWN if self.held else self.state)


class Bench:
    """A guard with a clock that stands still."""

    def __init__(self, path: Path):
        self.now_s = 100.0
        self.task: FakeTask | None = FakeTask()
        self.verdict: bool | Exception = False
        self.asked: list[str] = []
        self.goes_on = True
        self.file = GuardFile(path)
        pid = os.getpid()
        self.record = GuardRecord("j", "default", "c", "/none", pid, started_ticks(pid) or 0, 30.0, 3.0, guard_pid=pid)
        self.file.write(self.record)
        client = cast(ContainerdClient, SimpleNamespace(task=self._find))
        self.guard = PauseGuard(self.file, client, self._lets_run, lambda: self.now_s)

    def _find(self, container_id: str) -> FakeTask:
        if self.task is None:
            raise NotFound("gone")
        return self.task

    def _lets_run(self, job_id: str) -> bool:
        self.asked.append(job_id)
        if isinstance(self.verdict, Exception):
            raise self.verdict
        return self.verdict

    def change(self, **values: Any) -> None:
        self.file.write(replace(self.file.read() or self.record, **values))

    def look(self, after_s: float = 0.0) -> GuardState | None:
        """Let time pass, look, and return the state that the record has then."""
        self.now_s += after_s
        self.goes_on = self.guard.look()
        record = self.file.read()
        return record.state if record else None

    @property
    def runs(self) -> bool:
        return self.task is not None and self.task.state is ProcessState.RUNNING


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "j.json")


def test_while_the_worker_lives_and_the_budget_lasts_it_waits(bench: Bench) -> None:
    assert bench.look(29.0) is GuardState.ARMED
    assert not bench.runs


def test_when_the_budget_is_spent_the_task_runs(bench: Bench) -> None:
    assert bench.look(31.0) is GuardState.RESUMED
    assert bench.runs
    assert not bench.goes_on


def test_a_dead_worker_is_waited_for_no_longer_than_its_patience(bench: Bench) -> None:
    bench.change(**DEAD)
    assert bench.look() is GuardState.ARMED
    assert bench.look(2.0) is GuardState.ARMED
    assert bench.look(1.5) is GuardState.RESUMED
    assert bench.runs


def test_a_task_that_criu_holds_is_not_taken_for_running(bench: Bench) -> None:
    assert bench.task is not None
    bench.task.held = True
    assert bench.look(31.0) is GuardState.ARMED
    assert bench.goes_on
    bench.task.held = False
    assert bench.look() is GuardState.RESUMED
    assert bench.runs


def test_a_task_that_is_gone_needs_no_guard(bench: Bench) -> None:
    bench.task = None
    assert bench.look(31.0) is GuardState.RESUMED
    assert not bench.goes_on


def test_after_the_promise_no_clock_counts(bench: Bench) -> None:
    bench.change(state=GuardState.PROMISED)
    assert bench.look(3600.0) is GuardState.PROMISED
    assert not bench.runs
    assert not bench.asked, "the worker lives and brings the verdict"


def test_after_the_promise_a_guard_whose_worker_is_dead_asks_for_the_verdict(bench: Bench) -> None:
    bench.change(state=GuardState.PROMISED, **DEAD)
    assert bench.look() is GuardState.PROMISED
    bench.look(ASK_S / 2)
    assert bench.asked == ["j"], "not all the time"
    bench.verdict = Unavailable("no store")
    assert bench.look(ASK_S) is GuardState.PROMISED
    assert not bench.runs
    bench.verdict = True
    assert bench.look(ASK_S) is GuardState.RESUMED
    assert bench.runs


def test_a_promise_between_question_and_lock_is_not_broken_by_an_old_word(bench: Bench) -> None:
    bench.change(state=GuardState.PROMISED, **DEAD)
    bench.verdict = True
    asked = bench.guard._lets_run

    def release_meanwhile(job_id: str) -> bool:
        bench.change(state=GuardState.RELEASED)
        return asked(job_id)

    bench.guard._lets_run = release_meanwhile
    assert bench.look(ASK_S) is GuardState.RELEASED
    assert not bench.runs


def test_a_released_guard_goes_and_touches_nothing(bench: Bench) -> None:
    bench.change(state=GuardState.RELEASED)
    assert bench.look(3600.0) is GuardState.RELEASED
    assert not bench.goes_on
    assert not bench.runs


@pytest.mark.parametrize("fails", [False, True])
def test_what_the_freeze_cut_off_is_joined_when_the_task_runs(
    bench: Bench, fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    joined: list[tuple[dict[str, Any], int]] = []

    def join(network: dict[str, Any], pid: int) -> None:
        assert bench.runs, "joined before it ran"
        joined.append((network, pid))
        if fails and len(joined) == 1:
            raise InternalError("no such program", code="network_failed")

    monkeypatch.setattr(pause_guard, "join_again", join)
    bench.change(network={"network": "lab"})
    assert bench.look(31.0) is (GuardState.ARMED if fails else GuardState.RESUMED)
    assert bench.look() is GuardState.RESUMED
    assert joined == [({"network": "lab"}, 4711)] * (2 if fails else 1)


def test_nobody_runs_while_criu_is_at_work_and_one_that_hangs_is_ended_late(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    works, ended = [True], list[Path]()
    monkeypatch.setattr(pause_guard, "works_in", lambda _: works[0])
    monkeypatch.setattr(pause_guard, "end_criu", ended.append)
    bench.change(**DEAD)
    assert bench.look(4.0) is GuardState.ARMED
    assert bench.look(4.0) is GuardState.ARMED
    assert not bench.runs
    assert not ended
    bench.look(60.0)
    assert ended == [bench.file.path.parent.parent / "criu" / "j"]
    assert not bench.runs
    works[0] = False
    assert bench.look() is GuardState.RESUMED
    assert bench.runs
