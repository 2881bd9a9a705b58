"""How far the controller has got with what it was sent: it hears itself by the queue that everybody else uses.

On a machine that is too busy, or while the broker is away, heartbeats wait with everything else. A host is silent only
if it was not heard of although others who spoke later were.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta

from migrator.service.control.rounds import utc_now

WARM_UP = timedelta(seconds=3)


class Echo:
    """Says the time to itself, again and again.

    Args:
        call: Puts a moment into the controller's own queue; may raise `MigratorError`.
        now: The clock.
    """

    def __init__(self, call: Callable[[datetime], None], now: Callable[[], datetime] = utc_now):
        self._send = call
        self._now = now
        self._began = self._heard = now()
        self._lock = threading.Lock()

    def call(self) -> None:
        """Send the time."""
        self._send(self._now())

    def hear(self, sent_at: datetime) -> None:
        """Take it from the queue: what was sent before that moment was taken before it.

        Several controllers share the queue and hear each other: their clocks must agree as those of hosts must.
        """
        with self._lock:
            self._heard = max(self._heard, min(sent_at, self._now()))

    def is_warm(self) -> bool:
        """Whether it has listened for so long that every host that lives has spoken."""
        return self.heard_until() - self._began > WARM_UP

    def heard_until(self) -> datetime:
        """Up to when everybody who spoke was heard."""
        with self._lock:
            return self._heard
