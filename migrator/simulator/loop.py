"""Virtual time: events in order, one at a time."""

from __future__ import annotations

import heapq
from collections.abc import Callable


class Loop:
    """Events by the moment they are due; those of one moment in the order in which they were asked for."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._asked = 0

    def after(self, delay_s: float, call: Callable[[], None]) -> None:
        """Call something later."""
        self._asked += 1
        heapq.heappush(self._due, (self.now_s + delay_s, self._asked, call))

    def run_one(self) -> None:
        """Let the next event happen; an event that is overdue (see `run_until`) happens now."""
        moment_s, _, call = heapq.heappop(self._due)
        self.now_s = max(self.now_s, moment_s)
        call()

    def run_until(self, moment_s: float) -> None:
        """Let everything happen that is due until a moment; may be called from within an event."""
        while self._due and self._due[0][0] <= moment_s:
            self.run_one()
        self.now_s = max(self.now_s, moment_s)
