#!/usr/bin/python3
"""A process tree of three that talk by pipes: the parent asks, the child asks the grandchild, the answer comes back up.

Each process adds a secret of its own that exists only in its memory; the parent knows what the sum must be.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

STATE = Path("/state/state.json")


class Line:
    """Both directions to the next process down."""

    def __init__(self) -> None:
        self.down = os.pipe()
        self.up = os.pipe()

    def ask(self, number: int) -> int:
        """Send a number down and wait for the answer."""
        os.write(self.down[1], number.to_bytes(8, "big"))
        return int.from_bytes(_read(self.up[0]), "big")

    def serve(self, secret: int, next_line: Line | None) -> None:
        """Answer numbers from above, plus a secret, plus one for each answer given so far."""
        answered = 0
        while True:
            number = int.from_bytes(_read(self.down[0]), "big")
            below = next_line.ask(number) if next_line else number
            os.write(self.up[1], (below + secret + answered).to_bytes(8, "big"))
            answered += 1


def main() -> None:
    """Fork twice, then ask for ever."""
    STATE.parent.mkdir(parents=True, exist_ok=True)
    secrets = [int.from_bytes(os.urandom(4), "big") for _ in range(2)]
    first, second = Line(), Line()
    child = os.fork()
    if child == 0:
        if os.fork() == 0:
            second.serve(secrets[1], None)
        first.serve(secrets[0], second)
    nonce, count, faults = os.urandom(16).hex(), 0, 0
    while True:
        expected = count + sum(secrets) + 2 * count
        faults += first.ask(count) != expected
        count += 1
        _tell({"nonce": nonce, "counter": count, "ok": faults == 0, "pids": _tree()})
        time.sleep(0.01)


def _tree() -> list[int]:
    """List our own pids from the top down, by what the kernel says about children."""
    pids = [os.getpid()]
    while children := Path(f"/proc/{pids[-1]}/task/{pids[-1]}/children").read_text().split():
        pids.append(int(children[0]))
    return pids


def _read(descriptor: int) -> bytes:
    data = b""
    while len(data) < 8:
        part = os.read(descriptor, 8 - len(data))
        if not part:
            raise SystemExit("the process at the other end is gone")
        data += part
    return data


def _tell(state: dict[str, object]) -> None:
    temporary = STATE.with_suffix(".new")
    temporary.write_text(json.dumps(state))
    temporary.rename(STATE)


if __name__ == "__main__":
    main()
