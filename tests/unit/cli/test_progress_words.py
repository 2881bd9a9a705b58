"""How much longer a step takes, and what the freeze is expected to be, in a few words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from migrator.cli.progress import expected, time_left
from migrator.gen.migrator.v1 import migrator_pb2 as pb

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("took_s", "done", "words"),
    [(10, 25, ", 30 s left"), (100, 10, ", 15 min left"), (0.1, 50, ""), (10, 0, ""), (10, 100, "")],
)
def test_the_time_left_follows_from_the_speed(took_s: float, done: int, words: str) -> None:
    step = pb.Step(name="precopy", progress_bytes=done, total_bytes=100)
    step.started_at.FromDatetime(NOW - timedelta(seconds=took_s))
    assert time_left(step, NOW) == words


def test_a_freeze_is_announced_with_its_forecast() -> None:
    job = pb.Job(phase="freezing", forecast=pb.Forecast(freeze_ms=812.4, mode="lazy"))
    assert expected(job) == ", about 812 ms frozen (lazy)"
    job.phase = "copying"
    assert expected(job) == ""


def test_pages_that_still_come_are_told() -> None:
    job = pb.Job(phase="removing", restored="lazy", steps=[pb.Step(name="fill", status="started")])
    assert "still coming" in expected(job)
    job.restored = "eager"
    assert expected(job) == ""
