"""What a prune would do; to execute it, or to show it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

REPACK_USED_SHARE = 0.5
"""Of a pack that is needed for less than this, what is needed is written into a new one."""


@dataclass(slots=True)
class PrunePlan:
    """Objects by their names, with their sizes in bytes."""

    blobs: dict[str, int] = field(default_factory=dict)
    """Deleted now: no checkpoint needs them, and their mark is older than the grace time."""
    packs: dict[str, int] = field(default_factory=dict)
    mark_blobs: dict[str, int] = field(default_factory=dict)
    """Marked now; the next prune that comes a grace time later deletes them."""
    mark_packs: dict[str, int] = field(default_factory=dict)
    unmark_blobs: set[str] = field(default_factory=set)
    """Needed again, or gone."""
    unmark_packs: set[str] = field(default_factory=set)
    repack: dict[str, int] = field(default_factory=dict)
    """Mostly unused packs: marked, and what is needed of them is written anew first."""
    kept_young: int = 0
    """Objects that nobody needs and that are too young to be judged, or a job under way may rely on."""
    merge: set[str] = field(default_factory=set)
    """Small pack indexes, of which one large one is made."""
    unclear: list[str] = field(default_factory=list)
    """Damaged checkpoints, for whose sake no pack is touched, and perhaps no blob either."""
    damaged: list[str] = field(default_factory=list)
    """What is damaged, in words."""
    left: int = 0
    """Objects that nothing readable needs and that stay, for what is damaged may need them."""
    left_bytes: int = 0
    locked: list[str] = field(default_factory=list)
    """What the store must keep for now, in words: which object, until when."""
    hidden: dict[str, int] = field(default_factory=dict)
    """Deleted, though the store keeps versions of them: their bytes are not free."""
    missing_chunks: int = 0
    """Chunks that are needed and that no pack is known to have: no pack is touched before a verification."""

    def leave(self, *objects: dict[str, int]) -> None:
        """Let objects stay that would have been deleted, marked or written anew."""
        for some in objects:
            self.left += len(some)
            self.left_bytes += sum(some.values())
            some.clear()

    @property
    def freed_bytes(self) -> int:
        """What deleting frees now."""
        return sum(self.blobs.values()) + sum(self.packs.values())

    @property
    def marked_bytes(self) -> int:
        """What the next prune may free."""
        return sum(self.mark_blobs.values()) + sum(self.mark_packs.values())


@dataclass(frozen=True, slots=True)
class Cutoff:
    """Before which moment something must have been written to be judged."""

    written: datetime
    """Of objects: younger ones may belong to a job that is under way."""
    marked: datetime
    """Of marks: the grace time has passed for older ones, and no job is left from before them."""
