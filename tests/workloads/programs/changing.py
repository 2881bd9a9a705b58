"""A program with much memory of random bytes that changes as much of it as it is told, for the costs of backups.

    changing.py MIB

SIGUSR1: the longest gap between two ticks is measured anew. SIGUSR2: do what /state/order says: `stretch PERCENT`
rewrites the first so many percent of the memory, `scattered PERCENT` so many percent of its pages, here and there.
/state/state.json is written when an order is done and when a gap was seen, and not otherwise: an idle program is idle.
"""

from __future__ import annotations

import json
import mmap
import os
import random
import signal
import sys
import time
from pathlib import Path
from types import FrameType

PAGE_BYTES = 4096
TICK_S = 0.002
GAP_S = 0.05
"""A gap this long is told."""
STATE = Path("/state")


class Changing:
    """The memory and the clock."""

    def __init__(self, size_mib: int):
        self.memory = mmap.mmap(-1, size_mib << 20)
        self.pages = len(self.memory) // PAGE_BYTES
        self.longest_s, self.orders = 0.0, 0
        self.ordered = False
        for page in range(self.pages):
            self._rewrite(page)

    def run(self) -> None:
        """Tick for ever."""
        signal.signal(signal.SIGUSR1, self._forget)
        signal.signal(signal.SIGUSR2, self._order)
        self._tell()
        ticked = time.monotonic()
        while True:
            time.sleep(TICK_S)
            now = time.monotonic()
            gap_s, ticked = now - ticked, now
            if gap_s > self.longest_s:
                self.longest_s = gap_s
                if gap_s > GAP_S:
                    self._tell()
            if self.ordered:
                self.ordered = False
                self._obey(*(STATE / "order").read_text().split())
                self.orders += 1
                self.longest_s, ticked = 0.0, time.monotonic()
                self._tell()

    def _obey(self, how: str, percent: str) -> None:
        count = self.pages * int(percent) // 100
        chosen = range(count) if how == "stretch" else random.sample(range(self.pages), count)
        for page in chosen:
            self._rewrite(page)

    def _rewrite(self, page: int) -> None:
        self.memory[page * PAGE_BYTES : (page + 1) * PAGE_BYTES] = os.urandom(PAGE_BYTES)

    def _forget(self, _number: int, _frame: FrameType | None) -> None:
        self.longest_s = 0.0

    def _order(self, _number: int, _frame: FrameType | None) -> None:
        self.ordered = True

    def _tell(self) -> None:
        told = {"counter": self.orders, "longest_gap_ms": self.longest_s * 1000}
        (STATE / "new").write_text(json.dumps(told))
        (STATE / "new").replace(STATE / "state.json")


if __name__ == "__main__":
    STATE.mkdir(exist_ok=True)
    Changing(int(sys.argv[1])).run()
