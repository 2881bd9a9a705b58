"""What is inside a checkpoint, as far as it is shown: never a byte of memory, no environment, no arguments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class ProcessState(StrEnum):
    """What a process was doing when it was frozen."""

    ALIVE = "alive"
    DEAD = "dead"
    """It has ended and its parent has not asked for its status yet."""
    STOPPED = "stopped"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class OpenFile:
    """An open descriptor."""

    descriptor: int
    kind: str
    """`file`, `pipe`, `tcp`, `unix`, …"""
    name: str
    """A path, an address, or the number that both ends of a pipe share."""
    state: str = ""
    """Of a socket: `listening`, `established`, …; of a file: `deleted` if its directory no longer names it."""

    @property
    def is_socket(self) -> bool:
        """Whether it is one."""
        return self.kind in SOCKETS


SOCKETS = frozenset({"tcp", "udp", "udplite", "raw", "inet", "unix", "netlink", "packet"})


@dataclass(frozen=True, slots=True)
class MemoryRange:
    """A range of a process's addresses."""

    start: int
    end: int
    kind: str
    """`heap`, `stack`, `file`, `anonymous`, `shared`, …"""
    access: str
    """As /proc/PID/maps writes it: `rw-p`."""
    name: str = ""
    """The file that is mapped there."""
    stored_bytes: int = 0
    """How much of it is in the checkpoint: what CRIU can read from its file again, or was never touched, is not."""

    @property
    def size_bytes(self) -> int:
        """How long it is."""
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Thread:
    """A thread."""

    id: int
    name: str


@dataclass(frozen=True, slots=True)
class Process:
    """A process, with the ids that it sees itself."""

    pid: int
    parent: int
    """0 for the first one."""
    group: int
    session: int
    name: str
    state: ProcessState
    program: str = ""
    """The file that it executes."""
    uid: int = 0
    gid: int = 0
    threads: tuple[Thread, ...] = ()
    """All of them; the first is the process itself."""
    stored_bytes: int = 0
    """How much of its memory is in the checkpoint."""
    files: tuple[OpenFile, ...] = ()
    memory: tuple[MemoryRange, ...] = ()
    limits: Mapping[str, str] = field(default_factory=dict)
    """RLIMIT_* by its name in lower case: `SOFT` or `SOFT:HARD`."""


@dataclass(frozen=True, slots=True)
class MountPoint:
    """Something mounted. Its options are left out: those of a network file system may hold a password."""

    destination: str
    filesystem: str
    source: str
    read_only: bool = False
    from_outside: bool = False
    """It comes from the host: a volume, or a file that the runtime mounts."""


class FileChange(StrEnum):
    """What the container did to a path of its image."""

    WRITTEN = "written"
    """It was added or changed: a layer does not tell these apart."""
    REMOVED = "removed"
    EMPTIED = "emptied"
    """A directory of the image whose entries all went; what it holds now is written."""


@dataclass(frozen=True, slots=True)
class ChangedFile:
    """A path that differs from the base image."""

    path: str
    change: FileChange
    kind: str = ""
    """`file`, `directory`, `link`, `symlink`, `device` or `fifo`; empty for what is removed."""
    size_bytes: int = 0
    mode: int = 0
    modified_s: int = 0
    target: str = ""
    """Of a link."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What a checkpoint holds."""

    processes: tuple[Process, ...]
    """Parents before their children."""
    mounts: tuple[MountPoint, ...]
    files: tuple[ChangedFile, ...]
    limits: Mapping[str, str]
    """What the container's spec limits: `memory.limit`, `cpu.quota`, …"""
    memory_bytes: int
    """All pages in the checkpoint."""
    shared_bytes: int = 0
    """Those of them that are memory shared among processes."""
