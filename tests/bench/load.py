"""The program that is moved: so much memory, or files, or data in a redis-server, rewritten so fast."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from migrator.lab.images import build_image
from migrator.lab.recipes import IMAGES_DIR
from tests.workloads import Running
from tests.workloads.workload import State

PROGRAMS = Path(__file__).parent / "programs"
START_S = 120.0
SETTLE_S = 90.0
POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Load:
    """How much a container has, where, and how fast the program rewrites it."""

    memory_mib: int
    rewrite_mib_s: int = 0
    place: str = "memory"
    """memory, files or redis."""

    def __str__(self) -> str:
        where = "" if self.place == "memory" else f" in {self.place}"
        pace = f"{self.rewrite_mib_s} MiB/s" if self.rewrite_mib_s else "idle"
        return f"{self.memory_mib} MiB{where}, {pace}"

    @property
    def image_name(self) -> str:
        return f"migrator.local/busy-{self.place}-{self.memory_mib}-{self.rewrite_mib_s}:1"

    def image(self, root: Path) -> Path:
        """Make the image archive."""
        return build_image(
            root,
            IMAGES_DIR,
            name=self.image_name,
            packages=["python3-minimal", *(["redis-server"] if self.place == "redis" else [])],
            without=[] if self.place == "redis" else ["libssl3t64"],
            files={f"/opt/{name}": PROGRAMS / name for name in ("busy.py", "blocks.py")},
            entrypoint=[
                "/usr/bin/python3", "-B", "/opt/busy.py",
                self.place, str(self.memory_mib), str(self.rewrite_mib_s),
            ],
        )  # fmt: skip

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
