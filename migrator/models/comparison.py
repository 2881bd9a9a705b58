"""How two checkpoints differ."""

from __future__ import annotations

from dataclasses import dataclass

from migrator.models.contents import ChangedFile, MountPoint, Process


@dataclass(frozen=True, slots=True)
class ProcessChange:
    """A process that is in both and is not as it was."""

    pid: int
    name: str
    what: str
    """`state`, `user`, `threads`, or `limit.nofile` and the like."""
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class SocketChange:
    """A socket, or several alike, that only one of the two has."""

    kind: str
    name: str
    state: str
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class FileDifference:
    """A path of the changed files that is not as it was."""

    path: str
    before: ChangedFile | None
    after: ChangedFile | None


@dataclass(frozen=True, slots=True)
class MemoryChange:
    """How much of a process's stored memory is another one."""

    pid: int
    """0 for memory that processes share."""
    name: str
    before_bytes: int
    after_bytes: int
    changed_bytes: int | None
    """Pages that both have, with another content; None if contents were not compared."""
    added_bytes: int
    """Pages that only the later one has."""
    removed_bytes: int

    @property
    def fresh_share(self) -> float | None:
        """What part of the later one was not in the earlier, from 0 to 1."""
        if self.changed_bytes is None:
            return None
        return (self.changed_bytes + self.added_bytes) / self.after_bytes if self.after_bytes else 0.0


@dataclass(frozen=True, slots=True)
class LimitChange:
    """A limit of the container; empty where it was not set."""

    name: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """How a later checkpoint differs from an earlier one."""

    same_workload: bool
    started: tuple[Process, ...]
    ended: tuple[Process, ...]
    processes: tuple[ProcessChange, ...]
    sockets: tuple[SocketChange, ...]
    mounted: tuple[MountPoint, ...]
    unmounted: tuple[MountPoint, ...]
    files: tuple[FileDifference, ...]
    limits: tuple[LimitChange, ...]
    memory: tuple[MemoryChange, ...]
