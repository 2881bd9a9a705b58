"""The controller hears itself, and so knows how long messages wait."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from migrator.service.control.echo import Echo

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


class Clock:
    now = BEGAN

    def __call__(self) -> datetime:
        return self.now


def test_it_is_heard_up_to_the_last_moment_that_came_back() -> None:
    clock, queue = Clock(), list[datetime]()
    echo = Echo(queue.append, clock)
    for second in (1, 2, 3):
        clock.now = BEGAN + timedelta(seconds=second)
        echo.call()
    assert echo.heard_until() == BEGAN, "nothing has come back yet"
    echo.hear(queue[1])
    echo.hear(queue[0])  # a slower thread
    assert echo.heard_until() == BEGAN + timedelta(seconds=2)


def test_it_is_warm_when_every_host_has_had_its_turn() -> None:
    clock = Clock()
    echo = Echo(lambda _: None, clock)
    for second, warm in ((1, False), (4, True)):
        clock.now = BEGAN + timedelta(seconds=second)
        echo.hear(clock.now)
        assert echo.is_warm() is warm


def test_another_controllers_clock_does_not_lead_it_into_the_future() -> None:
    echo = Echo(lambda _: None, Clock())
    echo.hear(BEGAN + timedelta(hours=1))
    assert echo.heard_until() == BEGAN
