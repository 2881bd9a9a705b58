"""An object store that is used no faster than allowed."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import heapify, heappush

from migrator.storage.store import ObjectStore, Progress

BURST_S = 0.1
"""What was not used lately may be used at once, as much as so long a time gives."""
LOOK_S = 0.2
"""So often whoever waits looks whether he is still wanted."""
MOST_REMEMBERED = 256


class Pace:
    """Lets so many bytes a second through. Jobs that wait take turns, however many requests each of them makes.

    A request goes whole, and what it was too large for is waited for by the next one. May be used by several threads.

    Args:
        bytes_s: Bytes a second.
        now_s: A clock.
    """

    def __init__(self, bytes_s: int, now_s: Callable[[], float] = time.monotonic):
        self.bytes_s = bytes_s
        self._now_s = now_s
        self._changed = threading.Condition()
        self._balance_bytes = bytes_s * BURST_S
        self._counted_s = now_s()
        self._waiting: list[tuple[float, int]] = []
        self._numbers = itertools.count()
        self._turn = 0.0
        """Of who was let through last; each job's next turn comes later by what it was given."""
        self._next_turns: dict[str, float] = {}

    def take(self, job_id: str, size_bytes: int, check: Callable[[], None]) -> None:
        """Wait until so many bytes may go.

        Args:
            job_id: Whose they are.
            size_bytes: How many.
            check: Called now and then; what it raises ends the waiting.
        """
        with self._changed:
            ticket = self._queue(job_id, size_bytes)
            try:
                while (wait_s := self._wait_s(ticket)) > 0:
                    check()
                    self._changed.wait(min(wait_s, LOOK_S))
                self._balance_bytes -= size_bytes
                self._turn = ticket[0]
            finally:
                self._waiting.remove(ticket)
                heapify(self._waiting)
                self._changed.notify_all()

    def _queue(self, job_id: str, size_bytes: int) -> tuple[float, int]:
        turn = max(self._turn, self._next_turns.get(job_id, 0.0))
        if len(self._next_turns) > MOST_REMEMBERED:
            self._next_turns = {job: after for job, after in self._next_turns.items() if after > self._turn}
        self._next_turns[job_id] = turn + size_bytes
        ticket = (turn, next(self._numbers))
        heappush(self._waiting, ticket)
        return ticket

    def _wait_s(self, ticket: tuple[float, int]) -> float:
        now_s = self._now_s()
        gained_bytes = (now_s - self._counted_s) * self.bytes_s
        self._balance_bytes = min(self.bytes_s * BURST_S, self._balance_bytes + gained_bytes)
        self._counted_s = now_s
        if self._waiting[0] != ticket:
            return LOOK_S
        return max(0.0, -self._balance_bytes / self.bytes_s)


class Limits:
    """What one job has to keep to.

    Args:
        job_id: The job.
        sending: For what goes into the store.
        fetching: For what comes from it.
        check: Called while something waits; what it raises ends the request.
    """

    def __init__(self, job_id: str, sending: Sequence[Pace], fetching: Sequence[Pace], check: Callable[[], None]):
        self._job_id = job_id
        self._sending = sending
        self._fetching = fetching
        self._check = check

    def send(self, size_bytes: int) -> None:
        """Wait until so many bytes may go into the store."""
        for pace in self._sending:
            pace.take(self._job_id, size_bytes, self._check)

    def fetch(self, size_bytes: int) -> None:
        """Wait until so many bytes may come from it."""
        for pace in self._fetching:
            pace.take(self._job_id, size_bytes, self._check)


class PacedStore:
    """A store behind limits. Small requests that carry no content pass.

    Args:
        inner: The store.
        limits: How fast it may be used.
    """

    def __init__(self, inner: ObjectStore, limits: Limits):
        self.location = inner.location
        self._inner = inner
        self._limits = limits
        self.probe = inner.probe
        self.head = inner.head
        self.get = inner.get
        self.scan = inner.scan
        self.hidden = inner.hidden
        self.delete = inner.delete
        self.abort_uploads = inner.abort_uploads

    def session(self, checkpoint_id: str) -> PacedStore:
        """See `ObjectStore.session`."""
        return PacedStore(self._inner.session(checkpoint_id), self._limits)

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        """See `ObjectStore.put`."""
        self._limits.send(len(data))
        self._inner.put(key, data, if_absent=if_absent)

    def put_hashed(self, key: str, data: bytes | bytearray, digest: str) -> None:
        """See `ObjectStore.put_hashed`."""
        self._limits.send(len(data))
        self._inner.put_hashed(key, data, digest)

    def upload(
        self,
        key: str,
        chunks: Iterable[bytes],
        *,
        size_bytes: int,
        digest: str | None,
        on_progress: Progress | None = None,
    ) -> None:
        """See `ObjectStore.upload`."""
        self._inner.upload(key, self._sent(chunks), size_bytes=size_bytes, digest=digest, on_progress=on_progress)

    def download(self, key: str, *, size_bytes: int, on_progress: Progress | None = None) -> Iterator[bytes]:
        """See `ObjectStore.download`."""
        for piece in self._inner.download(key, size_bytes=size_bytes, on_progress=on_progress):
            self._limits.fetch(len(piece))
            yield piece

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        """See `ObjectStore.get_range`."""
        self._limits.fetch(length)
        return self._inner.get_range(key, offset, length)

    def _sent(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self._limits.send(len(chunk))
            yield chunk
