"""What of a process's memory has not come yet, and where it lies: changed as the process changes its memory."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from typing import NamedTuple


class Span(NamedTuple):
    """Pages side by side in memory and in one file."""

    start: int
    end: int
    file: int
    """Which file: its descriptor in the server."""
    offset: int
    """Where the first of them lies in it."""

    @property
    def size_bytes(self) -> int:
        """How long it is."""
        return self.end - self.start

    def within(self, start: int, end: int) -> Span:
        """The part of it between two addresses; they must touch it."""
        begin = max(self.start, start)
        return Span(begin, min(self.end, end), self.file, self.offset + begin - self.start)


class Spans:
    """All spans of one address space, none over another."""

    def __init__(self, spans: Iterable[Span] = ()):
        self._spans = sorted(spans)
        self._starts = [span.start for span in self._spans]
        self.left_bytes = sum(span.size_bytes for span in self._spans)

    def __bool__(self) -> bool:
        return bool(self._spans)

    def clone(self) -> Spans:
        """The same for a process that forked off."""
        twin = Spans()
        twin._spans, twin._starts, twin.left_bytes = self._spans.copy(), self._starts.copy(), self.left_bytes
        return twin

    def around(self, address: int, block_bytes: int) -> Span | None:
        """What lies in the same block as an address and side by side with it; None if nothing is missing there."""
        number = bisect_right(self._starts, address) - 1
        if number < 0 or self._spans[number].end <= address:
            return None
        start = address - address % block_bytes
        return self._spans[number].within(start, start + block_bytes)

    def last(self, limit_bytes: int) -> Span:
        """The end of the last one, no longer than that."""
        span = self._spans[-1]
        return span.within(max(span.start, span.end - limit_bytes), span.end)

    def drop(self, start: int, end: int) -> list[Span]:
        """Forget what lies between two addresses, and return it."""
        first = bisect_right(self._starts, start) - 1
        if first < 0 or self._spans[first].end <= start:
            first += 1
        after = bisect_left(self._starts, end)
        touched = self._spans[first:after]
        if not touched:
            return []
        left, right = touched[0], touched[-1]
        kept = [left.within(left.start, start)] if left.start < start else []
        kept += [right.within(end, right.end)] if right.end > end else []
        gone = [span.within(start, end) for span in touched]
        self._spans[first:after] = kept
        self._starts[first:after] = [span.start for span in kept]
        self.left_bytes -= sum(span.size_bytes for span in gone)
        return gone

    def move(self, start: int, target: int, size_bytes: int) -> None:
        """Follow a mapping to where it was moved."""
        moved = [
            span._replace(start=span.start - start + target, end=span.end - start + target)
            for span in self.drop(start, start + size_bytes)
        ]
        if not moved:
            return
        self.drop(target, target + size_bytes)
        place = bisect_left(self._starts, target)
        self._spans[place:place] = moved
        self._starts[place:place] = [span.start for span in moved]
        self.left_bytes += sum(span.size_bytes for span in moved)
