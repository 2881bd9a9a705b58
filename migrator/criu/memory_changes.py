"""Which pages of two checkpoints differ. Their contents are compared and never kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from migrator.criu.entries import Images
from migrator.criu.extents import PAGE_BYTES
from migrator.criu.memory_map import StoredPages

BLOCK_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class PageChanges:
    """The difference of two sets of pages."""

    changed_bytes: int
    """Both have them, with another content."""
    added_bytes: int
    removed_bytes: int


@dataclass(frozen=True, slots=True)
class _Common:
    """A run of pages that both have: where it lies in each image, and how long it is."""

    before: int
    after: int
    length: int


def compare_pages(
    before: tuple[Images, StoredPages], after: tuple[Images, StoredPages], check: Callable[[], None]
) -> PageChanges:
    """Compare the pages of one process, or of one piece of shared memory, at two times.

    Args:
        before: Images and pages of the earlier one.
        after: Those of the later one.
        check: Asked between blocks; raises when nobody wants the answer any more.

    Raises:
        IntegrityError: `bad_images`.
    """
    changed_bytes = common_bytes = 0
    for run in _common(before[1], after[1]):
        common_bytes += run.length
        for place in range(0, run.length, BLOCK_BYTES):
            check()
            length = min(BLOCK_BYTES, run.length - place)
            old = before[0].read_at(before[1].image, run.before + place, length)
            new = after[0].read_at(after[1].image, run.after + place, length)
            changed_bytes += _differing(old, new)
    return PageChanges(changed_bytes, after[1].size_bytes - common_bytes, before[1].size_bytes - common_bytes)


def count_pages(before: StoredPages, after: StoredPages) -> tuple[int, int]:
    """Return the bytes of the pages that came and that went, by their addresses alone."""
    common_bytes = sum(run.length for run in _common(before, after))
    return after.size_bytes - common_bytes, before.size_bytes - common_bytes


def _differing(old: bytes, new: bytes) -> int:
    if old == new:
        return 0
    places = range(0, len(old), PAGE_BYTES)
    return PAGE_BYTES * sum(old[at : at + PAGE_BYTES] != new[at : at + PAGE_BYTES] for at in places)


def _common(before: StoredPages, after: StoredPages) -> Iterator[_Common]:
    """Walk both in the order of addresses, in which they are (`read_pages` refuses others)."""
    left, right = list(before.stretches), list(after.stretches)
    i = j = 0
    while i < len(left) and j < len(right):
        start, end = max(left[i].start, right[j].start), min(left[i].end, right[j].end)
        if start < end:
            places = (left[i].offset + start - left[i].start, right[j].offset + start - right[j].start)
            yield _Common(*places, end - start)
        if left[i].end < right[j].end:
            i += 1
        else:
            j += 1
