#!/usr/bin/python3
"""Blocks of a given size in all, rewritten at a given rate, with the checksum of each known.

    busy.py PLACE MIB REWRITE_MIB_S

PLACE is where they lie: memory, files or redis (see blocks.py).
No block can be compressed and no two are alike. The longest time between two ticks of the wall clock is the freeze as
the program saw it. SIGUSR1 sets a mark: from there gaps are measured anew. After a gap all blocks are checked once. A
line sent to TCP port 7000 comes back.
"""

import json
import os
import random
import signal
import socket
import sys
import threading
import time
import zlib
from pathlib import Path

from blocks import BLOCK_BYTES, PLACES

TICK_S = 0.002
GAP_S = 0.02
TELL_S = 0.05
CHECKS = 64
"""Blocks checked a tick after a gap: 4 MiB."""
CATCH_UP_S = 0.05
"""What was not rewritten during a freeze is not made up for."""
STATE = Path("/state/state.json")


class Busy:
    """The blocks, and what is known of them."""

    def __init__(self, place: str, mib: int, rewrite_mib_s: float):
        self.rate_blocks_s = rewrite_mib_s * (1 << 20) / BLOCK_BYTES
        self.nonce = os.urandom(16).hex()
        self.random = random.Random(self.nonce)
        self.count = mib * (1 << 20) // BLOCK_BYTES
        self.blocks = PLACES[place](self.count)
        self.sums = [0] * self.count
        for block in range(self.count):
            self.write(block)
        self.marks = self.rewritten = self.next = 0
        self.due = 0.0
        self.longest_gap_s = 0.0
        self.unchecked = 0
        self.bad = []
        self.ticked = time.time()
        self.told = 0.0

    def write(self, block: int) -> None:
        """Give a block a new content."""
        data = self.random.randbytes(BLOCK_BYTES)
        self.sums[block] = zlib.crc32(data)
        self.blocks.write(block, data)

    def tick(self) -> None:
        """Look at the clock, rewrite what is due, check what is left to check, tell."""
        now = time.time()
        gap_s, self.ticked = now - self.ticked, now
        if gap_s >= GAP_S:
            self.longest_gap_s = max(self.longest_gap_s, gap_s)
        if gap_s >= 10 * GAP_S:
            self.unchecked = self.count
        self.due += min(gap_s, CATCH_UP_S) * self.rate_blocks_s
        for _ in range(int(self.due)):
            self.write(self.next)
            self.next = (self.next + 1) % self.count
            self.rewritten += 1
        self.due -= int(self.due)
        for _ in range(min(CHECKS, self.unchecked)):
            self.unchecked -= 1
            self.check(self.unchecked)
        if not 0 <= now - self.told < TELL_S:
            self.tell(now)

    def check(self, block: int) -> None:
        """Compare a block with its checksum."""
        if zlib.crc32(self.blocks.read(block)) != self.sums[block]:
            self.bad.append(block)

    def mark(self, *_: object) -> None:
        """Measure gaps from here on."""
        self.longest_gap_s = 0.0
        self.marks += 1

    def tell(self, now: float) -> None:
        """Replace the state file as a whole."""
        self.told = now
        known = {
            "nonce": self.nonce,
            "marks": self.marks,
            "rewritten": self.rewritten,
            "longest_gap_s": self.longest_gap_s,
            "unchecked": self.unchecked,
            "bad": self.bad[:10],
            "at": now,
        }
        new = STATE.with_suffix(".new")
        new.write_text(json.dumps(known))
        new.rename(STATE)


def answer() -> None:
    """Send every line back to whoever sent it."""
    listener = socket.create_server(("", 7000))
    while True:
        line, _ = listener.accept()
        threading.Thread(target=echo, args=(line,), daemon=True).start()


def echo(line: socket.socket) -> None:
    """Send back what comes until the other end closes."""
    with line:
        while data := line.recv(4096):
            line.sendall(data)


def main() -> None:
    """Go on until killed."""
    STATE.parent.mkdir(parents=True, exist_ok=True)
    busy = Busy(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
    signal.signal(signal.SIGUSR1, busy.mark)
    threading.Thread(target=answer, daemon=True).start()
    while True:
        busy.tick()
        time.sleep(TICK_S)


main()
