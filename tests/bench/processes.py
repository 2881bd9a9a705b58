"""What processes used, by /proc (proc(5)): processor time with that of children, and the most memory at once."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

TICKS_S = os.sysconf("SC_CLK_TCK")
RESET_PEAK = "5"
"""Written to /proc/PID/clear_refs: the peak of the resident size starts anew."""


class Meter:
    """What processes and all that they start use within a block."""

    def __init__(self, pids: list[int]):
        self._pids = pids
        self.cpu_s = 0.0
        self.peak_rss_mib = 0.0
        """Of the largest one."""

    def __enter__(self) -> Self:
        for pid in self._family():
            with suppress(OSError):
                Path(f"/proc/{pid}/clear_refs").write_text(RESET_PEAK)
        self._before_s = self._used_s()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cpu_s = self._used_s() - self._before_s
        self.peak_rss_mib = max((_peak_mib(pid) for pid in self._family()), default=0.0)

    def _used_s(self) -> float:
        return sum(_used_s(pid) for pid in self._family())

    def _family(self) -> list[int]:
        """The processes and their living descendants; what a dead one used counts with its parent."""
        children: dict[int, list[int]] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and (fields := _stat(int(entry.name))):
                children.setdefault(int(fields[1]), []).append(int(entry.name))
        found, left = [], list(self._pids)
        while left:
            pid = left.pop()
            found.append(pid)
            left += children.get(pid, [])
        return found


def _used_s(pid: int) -> float:
    fields = _stat(pid)
    return sum(int(field) for field in fields[11:15]) / TICKS_S if fields else 0.0


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third, the state, on."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _peak_mib(pid: int) -> float:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return 0.0
