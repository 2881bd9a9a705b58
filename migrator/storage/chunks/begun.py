"""What jobs that write in several rounds have in the store by now, as long as this process remembers it.

It may be forgotten at any time: the next round of that job finds it out from the store again.
"""

from __future__ import annotations

import threading
from collections.abc import Collection
from dataclasses import dataclass

MOST_JOBS = 32
MOST_NAMES = 1 << 19
"""Of all jobs together: some 60 MB."""


@dataclass(frozen=True, slots=True)
class Stock:
    """What a job relies on."""

    indexes: frozenset[str]
    """The pack indexes that it has written."""
    names: set[bytes]
    """The chunks that need not be sent again, its own and those of others."""
    packs: set[str]
    """All packs that they are in."""


class Begun:
    """The stock of each job. May be used by several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stocks: dict[str, Stock] = {}

    def of(self, job_id: str, own: Collection[str]) -> Stock | None:
        """What a job has, if that is known and it has written just these pack indexes."""
        with self._lock:
            found = self._stocks.get(job_id)
        return found if found is not None and found.indexes == frozenset(own) else None

    def note(self, job_id: str, own: Collection[str], names: set[bytes], packs: set[str]) -> None:
        """Remember what a job has; the oldest are forgotten where it gets too much."""
        with self._lock:
            self._stocks.pop(job_id, None)
            self._stocks[job_id] = Stock(frozenset(own), names, packs)
            while (
                len(self._stocks) > MOST_JOBS or sum(len(stock.names) for stock in self._stocks.values()) > MOST_NAMES
            ):
                del self._stocks[next(iter(self._stocks))]

    def forget(self, job_id: str) -> None:
        """Forget a job."""
        with self._lock:
            self._stocks.pop(job_id, None)
