#!/usr/bin/python3
"""Has a child that was stopped by SIGSTOP: it can neither be frozen nor looked at while its cgroup is frozen."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from witness import Witness


def main() -> None:
    """Stop the child, and see for ever that it is."""
    witness = Witness()
    child = os.fork()
    while child == 0:
        time.sleep(60)
    os.kill(child, signal.SIGSTOP)
    time.sleep(0.1)

    def look(_: int) -> None:
        state = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]
        witness.expect("the child's state", state, "T")

    witness.run(look)


if __name__ == "__main__":
    main()
