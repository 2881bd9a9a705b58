"""A schedule in a lab: it makes checkpoints every few seconds, is paused, and loses and doubles nothing when its
controller is killed. One move, because a lab is dear."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.acceptance.cluster import Cluster
from tests.workloads import WORKLOADS, Running

pytestmark = [pytest.mark.real, pytest.mark.timeout(300), pytest.mark.usefixtures("keeps_checkpoints")]
EVERY_S = 4


@contextmanager
def scheduled(cluster: Cluster, name: str, *words: str) -> Iterator[None]:
    """A schedule, deleted afterwards; its jobs end before the test does."""
    cluster.done("schedules", "create", name, *words)
    try:
        yield
    finally:
        shown = shown_once(cluster, name, lambda runs: True)
        cluster.done("schedules", "delete", name)
        for job_id in jobs_of(shown):
            cluster.wait_for_job(job_id)


def shown_once(cluster: Cluster, name: str, enough: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
    """The runs of a schedule, oldest first, as soon as they are as wanted."""
    deadline = time.monotonic() + 120
    while True:
        runs: list[dict[str, Any]] = cluster.done("schedules", "show", name, "-n", "100")["runs"][::-1]
        if enough(runs):
            return runs
        assert time.monotonic() < deadline, runs
        time.sleep(0.3)


def succeeded(runs: list[dict[str, Any]]) -> int:
    return sum(run["state"] == "succeeded" for run in runs)


def jobs_of(runs: list[dict[str, Any]]) -> list[str]:
    return [act["job_id"] for run in runs for act in run["acts"] if act["job_id"]]


def fire_times(run: dict[str, Any]) -> list[datetime]:
    """All that a row stands for."""
    first = datetime.fromisoformat(run["fire_time"])
    return [first + timedelta(seconds=EVERY_S * number) for number in range(run["count"])]


def test_a_schedule_neither_loses_nor_doubles_a_fire_time(cluster: Cluster, ticker: Running) -> None:
    before, known = ticker.state(), {row["id"] for row in cluster.done("checkpoints", "list")}
    control = cluster.lab.control.service("controller")
    words = ("checkpoint", str(ticker), "--every", f"{EVERY_S}s", "--overlap", "buffer")
    with scheduled(cluster, "often", *words):
        shown_once(cluster, "often", lambda runs: succeeded(runs) >= 2)
        cluster.done("schedules", "pause", "often", "--reason", "a look at the disks")
        paused_after = len(jobs_of(shown_once(cluster, "often", lambda runs: True)))
        time.sleep(EVERY_S + 1)
        assert len(jobs_of(shown_once(cluster, "often", lambda runs: True))) == paused_after
        cluster.done("schedules", "resume", "often")
        control.kill()
        time.sleep(EVERY_S + 1)
        control.start()
        runs = shown_once(cluster, "often", lambda runs: succeeded(runs) >= paused_after + 3)
        cluster.done("schedules", "pause", "often")
        runs = shown_once(cluster, "often", lambda runs: all(run["state"] != "running" for run in runs))
    times = [moment for run in runs for moment in fire_times(run)]
    assert times == [times[0] + timedelta(seconds=EVERY_S * number) for number in range(len(times))]
    assert {run["state"] for run in runs} <= {"succeeded", "skipped"}, runs
    made = [row for row in cluster.done("checkpoints", "list") if row["id"] not in known]
    assert sorted(row["job_id"] for row in made) == sorted(jobs_of(runs))
    assert len(set(jobs_of(runs))) == succeeded(runs)
    WORKLOADS["ticker"].check(before, ticker)
