"""The program that is moved: so much memory, rewritten so fast."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from migrator.lab.images import build_image
from migrator.lab.recipes import IMAGES_DIR
from tests.workloads import Running
from tests.workloads.workload import State

PROGRAM = Path(__file__).parent / "programs/busy.py"
START_S = 120.0
SETTLE_S = 90.0
POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Load:
    """How much memory a container has, and how fast the program rewrites it."""

    memory_mib: int
    rewrite_mib_s: int = 0

    def __str__(self) -> str:
        return f"{self.memory_mib} MiB, " + (f"{self.rewrite_mib_s} MiB/s rewritten" if self.rewrite_mib_s else "idle")

    @property
    def image_name(self) -> str:
        return f"migrator.local/busy-{self.memory_mib}-{self.rewrite_mib_s}:1"

    def image(self, root: Path) -> Path:
        """Make the image archive."""
        return build_image(
            root,
            IMAGES_DIR,
            name=self.image_name,
            packages=["python3-minimal"],
            without=["libssl3t64"],
            files={"/opt/busy.py": PROGRAM},
            entrypoint=["/usr/bin/python3", "-B", "/opt/busy.py", str(self.memory_mib), str(self.rewrite_mib_s)],
        )

    def wait_started(self, container: Running) -> None:
        """Wait until all of the memory is written."""
        self._until(container, lambda state: bool(state), START_S)

    def mark(self, container: Running) -> State:
        """Let the program measure its pauses from here on; return what it says now."""
        marks = container.state()["marks"]
        container.host.run("kill", "-USR1", str(container.pid))
        return self._until(container, lambda state: state["marks"] > marks, START_S)

    def pause_s(self, before: State, container: Running) -> float:
        """Return how long the program stood still, once all of its memory was found right."""
        after = self._until(container, lambda state: state["longest_gap_s"] > 0 and not state["unchecked"], SETTLE_S)
        assert after["nonce"] == before["nonce"], "another program runs"
        assert not after["bad"], f"blocks {after['bad']} are not what was written"
        return float(after["longest_gap_s"])

    def _until(self, container: Running, wanted: Callable[[State], bool], timeout_s: float) -> State:
        deadline, seen = time.monotonic() + timeout_s, None
        while time.monotonic() < deadline:
            try:
                seen = container.state()
            except (AssertionError, FileNotFoundError, ProcessLookupError) as error:
                seen = {"unreadable": str(error)}
            else:
                if wanted(seen):
                    return seen
            time.sleep(POLL_S)
        raise AssertionError(f"{container} never got there; last seen: {seen}")
