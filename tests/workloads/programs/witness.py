"""What every program here does alike: check each answer, count those that were right, tell it in /state/state.json."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

STATE = Path("/state/state.json")
TELL_S = 0.05


class Witness:
    """The nonce lives in memory only: who still has it was not started anew."""

    def __init__(self) -> None:
        STATE.parent.mkdir(parents=True, exist_ok=True)
        self.nonce = os.urandom(16).hex()
        self.counter = 0
        self.faults: list[str] = []
        self.more: dict[str, object] = {}
        self._told = 0.0

    def expect(self, what: str, got: object, wanted: object) -> None:
        """Remember it as a fault when an answer is not what it must be."""
        if got != wanted:
            self.faults.append(f"act {self.counter}: {what} is {str(got)[:80]!r}, not {str(wanted)[:80]!r}")

    def fail(self, error: Exception) -> None:
        """Tell of the error that ends it all."""
        self.faults.append(f"act {self.counter}: {type(error).__name__}: {error}")
        self.tell()

    def run(self, act: Callable[[int], None], pause_s: float = 0.005) -> None:
        """Do numbered acts for ever; the first that raises is the last, and a fault."""
        while True:
            try:
                act(self.counter)
            except Exception as error:
                self.fail(error)
                raise
            self.done()
            time.sleep(pause_s)

    def done(self) -> None:
        """Count one act more, and tell it now and then."""
        self.counter += 1
        if abs(time.monotonic() - self._told) > TELL_S:
            self.tell()

    def tell(self) -> None:
        """Replace the state file as a whole."""
        self._told = time.monotonic()
        known = {"nonce": self.nonce, "counter": self.counter, "ok": not self.faults, "faults": self.faults[:5]}
        temporary = STATE.with_suffix(".new")
        temporary.write_text(json.dumps(known | self.more))
        temporary.rename(STATE)


def start_server(*command: str, user: str | None = None) -> subprocess.Popen[bytes]:
    """Start a server whose words go to /state/server.log."""
    STATE.parent.mkdir(parents=True, exist_ok=True)
    with (STATE.parent / "server.log").open("ab") as log:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, user=user)
