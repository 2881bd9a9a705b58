"""What every way of moving has in common: start a program, move it to the other host, tell what it cost."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass

from tests.bench.load import Load
from tests.workloads import Running

NAME = "busy"


@dataclass(frozen=True, slots=True)
class Sample:
    """One move. None: this way has no such figure."""

    freeze_ms: float
    """How long the program stood still, as it saw itself by the wall clock."""
    total_ms: float
    bytes_moved: int | None = None
    """Through the object store, or written and read as files on the way."""
    cpu_s: float | None = None
    """Of our own processes on all hosts."""
    peak_rss_mib: float | None = None
    """Of the largest of our own processes."""
    client_gap_ms: float | None = None
    """The longest wait of a client connected by TCP all the while."""


class System(ABC):
    """A way of moving a container between two hosts."""

    name: str
    mode: str

    def __str__(self) -> str:
        return f"{self.name} {self.mode}"

    @abstractmethod
    def start(self, load: Load) -> Running:
        """Start the program on one of the hosts."""

    @abstractmethod
    def move(self, container: Running) -> Running:
        """Move it to the other host."""

    @abstractmethod
    def remove(self) -> None:
        """Remove the container from wherever it is."""

    def measure(self, load: Load, container: Running) -> tuple[Running, Sample]:
        """Move it once, with all of its memory checked afterwards."""
        before = load.mark(container)
        began = time.monotonic()
        moved = self.move(container)
        total_s = time.monotonic() - began
        pause_s = load.pause_s(before, moved)
        return moved, self.sample(pause_s * 1000, total_s * 1000)

    def sample(self, freeze_ms: float, total_ms: float) -> Sample:
        """Put together what is known of the latest move."""
        return Sample(round(freeze_ms, 1), round(total_ms, 1), **self.costs())

    def costs(self) -> dict[str, float | int | None]:
        """Say what the latest move cost besides time."""
        return {}
