#!/usr/bin/python3
"""A program whose memory changes all the time and who can tell whether all of it is still its own.

    ticker.py [MIB] [STATE]          64 MiB and /state/state.json when omitted

What every page must hold follows from a nonce that exists only in memory, the page's number and how often it was
rewritten. So each page can be checked bit by bit, and a program that was started anew cannot pass for the old one. It
ticks every few milliseconds; the longest time between two ticks is the freeze as the program itself saw it. SIGUSR1
sets a mark: from there the longest gap is measured again. Of the two clocks the wall clock tells the whole freeze: CRIU
restores CLOCK_MONOTONIC to where it stood at the dump, by a time namespace.

About 20 times a second the state file says: nonce, pid, counter, memory_ok, sweeps, last and longest gap, …
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from types import FrameType

PAGE_BYTES = 4096
TICK_S = 0.005
REWRITES = 3
CHECKS = 12
HURRIED_CHECKS = 120
"""Pages checked a tick after a gap, so that all of the memory is checked within a second of a move."""
STATE_S = 0.05
GAP_S = 0.05
"""A gap this long is worth remembering."""
MOVE_S = 0.25
"""A gap this long may have been a move: all of the memory is checked anew. A busy machine makes shorter ones."""
REMEMBERED_GAPS = 20


class Ticker:
    """Memory, its history, and the clock."""

    def __init__(self, size_bytes: int, state: Path):
        self.nonce = int.from_bytes(os.urandom(16), "big")
        self.draw = random.Random()
        self.state = state
        self.pages = size_bytes // PAGE_BYTES
        self.generations = [0] * self.pages
        self.memory = bytearray(size_bytes)
        for page in range(self.pages):
            self._write(page)
        self.choose = random.Random(self.nonce)
        self.counter = self.rewritten = self.checked = self.sweeps = self.sweeps_since_gap = self.cursor = 0
        self.bad_pages: list[int] = []
        self.gaps: list[dict[str, float]] = []
        self.last_gap_s = self.max_gap_s = self.max_gap_realtime_s = 0.0
        self.marks = 0
        self.hurried = False
        self.started_at = time.time()
        self.ticked = time.monotonic()
        self.ticked_realtime = time.time()
        self.told = 0.0

    def content(self, page: int) -> bytes:
        """Say what a page must hold."""
        self.draw.seed(self.nonce << 96 | page << 64 | self.generations[page])
        return self.draw.randbytes(PAGE_BYTES)

    def tick(self) -> None:
        """Look at the clock, rewrite a few pages, check a few others."""
        self._look_at_the_clock()
        self.counter += 1
        for _ in range(REWRITES):
            page = self.choose.randrange(self.pages)
            self.generations[page] += 1
            self._write(page)
            self.rewritten += 1
        self._check(HURRIED_CHECKS if self.hurried else CHECKS)
        if self.ticked - self.told >= STATE_S or self.ticked < self.told:
            self.tell()

    def mark(self, _number: int, _frame: FrameType | None) -> None:
        """Measure the longest gap from here on."""
        self.max_gap_s = self.max_gap_realtime_s = 0.0
        self.gaps = []
        self.marks += 1

    def tell(self) -> None:
        """Replace the state file as a whole."""
        self.told = self.ticked
        known = {
            "nonce": f"{self.nonce:032x}",
            "pid": os.getpid(),
            "counter": self.counter,
            "pages": self.pages,
            "rewritten": self.rewritten,
            "memory_ok": not self.bad_pages and sum(self.generations) == self.rewritten,
            "bad_pages": self.bad_pages[:10],
            "verified_pages": self.checked,
            "sweeps": self.sweeps,
            "sweeps_since_gap": self.sweeps_since_gap,
            "last_gap_s": round(self.last_gap_s, 6),
            "max_gap_s": round(self.max_gap_s, 6),
            "max_gap_realtime_s": round(self.max_gap_realtime_s, 6),
            "gaps": self.gaps,
            "marks": self.marks,
            "started_at": self.started_at,
            "at": self.ticked_realtime,
            "cpu_s": round(time.process_time(), 3),
        }
        temporary = self.state.with_suffix(".new")
        temporary.write_text(json.dumps(known))
        temporary.rename(self.state)

    def _look_at_the_clock(self) -> None:
        now, now_realtime = time.monotonic(), time.time()
        gap_s, gap_realtime_s = now - self.ticked, now_realtime - self.ticked_realtime
        self.ticked, self.ticked_realtime = now, now_realtime
        self.last_gap_s = gap_s
        self.max_gap_s = max(self.max_gap_s, gap_s)
        self.max_gap_realtime_s = max(self.max_gap_realtime_s, gap_realtime_s)
        if max(abs(gap_s), abs(gap_realtime_s)) >= GAP_S:
            self.gaps = [*self.gaps, {"gap_s": gap_s, "realtime_s": gap_realtime_s, "ended_at": now_realtime}]
            self.gaps = self.gaps[-REMEMBERED_GAPS:]
        if max(abs(gap_s), abs(gap_realtime_s)) >= MOVE_S:
            self.cursor, self.sweeps_since_gap, self.hurried = 0, 0, True

    def _check(self, pages: int) -> None:
        for _ in range(pages):
            begin = self.cursor * PAGE_BYTES
            if self.memory[begin : begin + PAGE_BYTES] != self.content(self.cursor):
                self.bad_pages.append(self.cursor)
            self.checked += 1
            self.cursor += 1
            if self.cursor == self.pages:
                self.cursor, self.hurried = 0, False
                self.sweeps += 1
                self.sweeps_since_gap += 1

    def _write(self, page: int) -> None:
        begin = page * PAGE_BYTES
        self.memory[begin : begin + PAGE_BYTES] = self.content(page)


def main(mib: int, state: Path) -> None:
    """Tick until killed."""
    state.parent.mkdir(parents=True, exist_ok=True)
    ticker = Ticker(mib << 20, state)
    signal.signal(signal.SIGUSR1, ticker.mark)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    while True:
        ticker.tick()
        time.sleep(TICK_S)


if __name__ == "__main__":
    given = dict(enumerate(sys.argv))
    main(int(given.get(1, 64)), Path(given.get(2, "/state/state.json")))
