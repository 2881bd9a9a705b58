"""The demonstration's program seen from outside: by its own state file and containerd's tool, never by the product."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from migrator.errors import InternalError, NotFound, Unavailable
from migrator.lab.host import Host

CONTAINER = "demo"
IMAGE = f"migrator.local/{CONTAINER}:1"
WAIT_S = 30.0
POLL_S = 0.02

Facts = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Proof:
    """What must be true if the program went on from the same memory; each with the words for the report."""

    same_nonce: bool
    same_start: bool
    counter_went_on: bool
    memory_verified: bool
    source_is_gone: bool

    @property
    def continuity(self) -> bool:
        """Whether all of it is true."""
        return all((self.same_nonce, self.same_start, self.counter_went_on, self.memory_verified, self.source_is_gone))


class Witness:
    """The demo container on one host, seen by containerd's own tool and through /proc."""

    def __init__(self, host: Host):
        self.host = host

    def ctr(self, *words: str, check: bool = True) -> str:
        """Run `ctr` on the host and return what it printed.

        Raises:
            InternalError: `demo_ctr_failed`, it refused.
        """
        done = self.host.exec(["ctr", *words], timeout_s=WAIT_S)
        if check and done.returncode:
            raise InternalError(
                f"ctr {' '.join(words)}: {done.stderr.strip()}", code="demo_ctr_failed", host=self.host.name
            )
        return done.stdout

    def pid(self) -> int | None:
        """Return the process id of the container's program; None when it has no task here."""
        rows = (line.split() for line in self.ctr("tasks", "ls").splitlines()[1:])
        return next((int(row[1]) for row in rows if row[0] == CONTAINER), None)

    def exists(self) -> bool:
        """Tell whether the host knows the container or a task of it."""
        return CONTAINER in self.ctr("containers", "ls", "-q").split() or self.pid() is not None

    def state(self) -> Facts:
        """Read what the program says of itself.

        Raises:
            NotFound: `demo_not_running`, it does not run here or has said nothing yet.
        """
        pid = self.pid()
        try:
            state: Facts = json.loads(Path(f"/proc/{pid}/root/state/state.json").read_text())
        except OSError as error:
            raise NotFound(f"the demo program is not on {self.host.name}", code="demo_not_running") from error
        return state

    def wait_until(self, wanted: Callable[[Facts], bool], what: str) -> Facts:
        """Read the state again and again until it is as wanted.

        Raises:
            Unavailable: `demo_stuck`, it never was.
        """
        deadline, seen = time.monotonic() + WAIT_S, {}
        while time.monotonic() < deadline:
            try:
                seen = self.state()
            except NotFound as error:
                seen = {"error": str(error)}
            else:
                if wanted(seen):
                    return seen
            time.sleep(POLL_S)
        raise Unavailable(f"the demo program did not {what} in {WAIT_S:.0f} s: {seen}", code="demo_stuck")

    def start(self, image: Path) -> Facts:
        """Import the image, start the program, and return its state once it counts and its memory is filled."""
        self.host.import_image(image)
        self.ctr("run", "--detach", "--null-io", IMAGE, CONTAINER)
        return self.wait_until(lambda state: int(state["counter"]) > 50, "begin to count")

    def mark(self) -> None:
        """Have the program measure its longest gap from here on."""
        before = int(self.state()["marks"])
        self.ctr("tasks", "kill", "--signal", "SIGUSR1", CONTAINER)
        self.wait_until(lambda state: int(state["marks"]) > before, "take the mark")

    def clear(self, *, image: bool) -> None:
        """Remove the container, and the image if wanted; nothing there is fine."""
        self.ctr("tasks", "kill", "--all", "--signal", "SIGKILL", CONTAINER, check=False)
        self.ctr("tasks", "delete", "--force", CONTAINER, check=False)
        self.ctr("containers", "delete", CONTAINER, check=False)
        if image:
            self.ctr("images", "delete", "--sync", IMAGE, check=False)
        if self.exists():
            raise InternalError(
                f"container {CONTAINER} cannot be removed", code="demo_not_cleared", host=self.host.name
            )


def prove(before: Facts, source: Witness, target: Witness) -> tuple[Facts, Proof]:
    """Ask the program on the target who it is, once it has checked all of its memory there."""

    def judged(state: Facts) -> bool:
        return not state["memory_ok"] or (state["max_gap_realtime_s"] > 0.05 and state["sweeps_since_gap"] > 0)

    after = target.wait_until(judged, "check its memory")
    return after, Proof(
        same_nonce=after["nonce"] == before["nonce"],
        same_start=after["started_at"] == before["started_at"],
        counter_went_on=after["counter"] > before["counter"],
        memory_verified=bool(after["memory_ok"]),
        source_is_gone=not source.exists(),
    )


def downtime_s(state: Facts) -> float:
    """The freeze as the program saw it: the wall clock's gap, for CRIU sets the monotonic clock back to the dump."""
    return max(float(state["max_gap_s"]), float(state["max_gap_realtime_s"]))
