#!/usr/bin/python3
"""Threads that count together: each has a counter of its own, a lock guards the total, a condition passes a baton on.

`ok` in /state/state.json stays true only while the sum of the counters is the total, the baton goes round in order,
every thread keeps what it holds in its own stack and thread-local storage, and each of them moves on.
"""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

THREADS = 6
STATE = Path("/state/state.json")


class Circle:
    """What the threads share."""

    def __init__(self) -> None:
        self.nonce = os.urandom(16).hex()
        self.lock = threading.Lock()
        self.baton = threading.Condition()
        self.own = threading.local()
        self.counters = [0] * THREADS
        self.total = self.turn = self.rounds = 0
        self.faults: list[str] = []

    def run(self, number: int) -> None:
        """Count and pass the baton for ever."""
        secret = self.own.secret = f"{self.nonce}-{number}"
        held = 0
        while True:
            with self.lock:
                self.counters[number] += 1
                self.total += 1
                held += 1
                if held != self.counters[number] or self.own.secret != secret:
                    self.faults.append(f"thread {number} lost what it held")
            with self.baton:
                if not self.baton.wait_for(lambda: self.turn == number, timeout=30):
                    self.faults.append(f"thread {number} never got the baton")
                self.turn = (number + 1) % THREADS
                self.rounds += number == THREADS - 1
                self.baton.notify_all()
            time.sleep(0.002)

    def look(self) -> dict[str, object]:
        """Check what must hold and say what is."""
        with self.lock:
            if sum(self.counters) != self.total:
                self.faults.append(f"counters {self.counters} do not add up to {self.total}")
            if max(self.counters) - min(self.counters) > 2:
                self.faults.append(f"a thread stands still: {self.counters}")
            return {
                "nonce": self.nonce,
                "counter": self.total,
                "counters": list(self.counters),
                "rounds": self.rounds,
                "threads": sorted(thread.native_id or 0 for thread in threading.enumerate()),
                "ok": not self.faults,
                "faults": self.faults[:5],
            }


def main() -> None:
    """Start the threads and tell how they are."""
    STATE.parent.mkdir(parents=True, exist_ok=True)
    circle = Circle()
    for number in range(THREADS):
        threading.Thread(target=circle.run, args=(number,), daemon=True).start()
    while True:
        temporary = STATE.with_suffix(".new")
        temporary.write_text(json.dumps(circle.look()))
        temporary.rename(STATE)
        time.sleep(0.05)


if __name__ == "__main__":
    main()
