"""What checkpoints occupy in the object store."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class PartUsage:
    """A part of a checkpoint."""

    role: str
    size_bytes: int
    """Of the image: all that belongs to it."""
    own_bytes: int
    """What no other checkpoint needs."""


@dataclass(frozen=True, slots=True)
class CheckpointUsage:
    """A checkpoint."""

    id: str
    workload_id: str
    container: str
    created_at: datetime
    parts: tuple[PartUsage, ...]

    @property
    def size_bytes(self) -> int:
        """What it would occupy alone."""
        return sum(part.size_bytes for part in self.parts)

    @property
    def own_bytes(self) -> int:
        """What its removal would free, its image aside, which stays for the next one."""
        return sum(part.own_bytes for part in self.parts)


@dataclass(frozen=True, slots=True)
class Usage:
    """Several checkpoints."""

    checkpoints: tuple[CheckpointUsage, ...]
    size_bytes: int
    """All of them together: what they share counts once."""
